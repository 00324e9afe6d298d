/*
 * TCP between two network namespaces: how many bytes, or how many new connections, one after the other, per second.
 * network.py compiles it (static); the same program on both sides of each ratio.
 *
 *     netload serve PORT                       until it is killed
 *     netload bulk ADDRESS PORT SECONDS        one connection, all bytes of which the server has counted
 *     netload connect ADDRESS PORT SECONDS     connections that carry one byte each way
 *
 * The clients print one number: bytes or connections per second.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (1 << 17)
static char buffer[CHUNK];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in place(const char *address, const char *port) {
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &found.sin_addr) != 1) fail(address);
    return found;
}

static int serve(const char *port) {
    struct sockaddr_in here = place("0.0.0.0", port);
    int on = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 1024)) fail("serve");
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int peer = accept(listening, NULL, NULL);
        ssize_t got = peer < 0 ? -1 : read(peer, buffer, CHUNK);
        if (got > 0 && buffer[0] == 'b') {
            uint64_t total = 0;
            for (; got > 0; got = read(peer, buffer, CHUNK)) total += (uint64_t)got;
            if (write(peer, &total, sizeof total) < 0) perror("serve");
        } else if (got > 0 && write(peer, "x", 1) == 1) {
            got = read(peer, buffer, 1); /* the client's reset */
        }
        if (peer >= 0) close(peer);
    }
}

static int opened(const struct sockaddr_in *server) {
    int made = socket(AF_INET, SOCK_STREAM, 0);
    if (made < 0 || connect(made, (const struct sockaddr *)server, sizeof *server)) fail("connect");
    return made;
}

static double bulk(const struct sockaddr_in *server, double seconds) {
    int made = opened(server);
    uint64_t total = 0;
    double began = now();
    memset(buffer, 'b', CHUNK);
    while (now() - began < seconds)
        if (write(made, buffer, CHUNK) < 0) fail("write");
    shutdown(made, SHUT_WR);
    if (read(made, &total, sizeof total) != sizeof total) fail("read");
    return (double)total / (now() - began);
}

static double connections(const struct sockaddr_in *server, double seconds) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* nothing waits for a minute afterwards */
    double began = now();
    long count = 0;
    for (; now() - began < seconds; count++) {
        int made = opened(server);
        setsockopt(made, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (write(made, "c", 1) != 1 || read(made, buffer, 1) != 1) fail("a connection");
        close(made);
    }
    return (double)count / (now() - began);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve")) return serve(argv[2]);
    if (argc != 5 || (strcmp(argv[1], "bulk") && strcmp(argv[1], "connect"))) {
        fprintf(stderr, "usage: netload serve PORT | bulk|connect ADDRESS PORT SECONDS\n");
        return 2;
    }
    struct sockaddr_in server = place(argv[2], argv[3]);
    double seconds = atof(argv[4]);
    printf("%.1f\n", argv[1][0] == 'b' ? bulk(&server, seconds) : connections(&server, seconds));
    return 0;
}
