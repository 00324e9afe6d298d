/*
 * Asks a DNS server for the A records of one name, over and over, with a fixed number of questions outstanding on one UDP
 * socket: how many answers per second, and how long each took. measure.py compiles it (static) and runs it in the network
 * namespace of a task; the same program for every server.
 *
 *     dnsload SERVER NAME SECONDS OUTSTANDING
 *
 * Prints one JSON object. A question without an answer after a second counts as lost and is asked again.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MOST_OUTSTANDING 256
#define BUCKETS 200000 /* of a microsecond: up to 0.2 s, the last one holds all that took longer */
#define LOST_AFTER_NS 1000000000LL

static long histogram[BUCKETS];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int write_question(unsigned char *packet, const char *name) {
    static const unsigned char head[12] = {0, 0, 1, 0, 0, 1};
    unsigned char *at = packet + sizeof head;
    memcpy(packet, head, sizeof head);
    while (*name) {
        size_t length = strcspn(name, ".");
        if (length == 0 || length > 63 || at + length > packet + 250) return -1;
        *at++ = (unsigned char)length;
        memcpy(at, name, length);
        at += length;
        name += length + (name[length] == '.');
    }
    memcpy(at, "\0\0\1\0\1", 5); /* the root, type A, class IN */
    return (int)(at + 5 - packet);
}

static long percentile(long total, double share) {
    long seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > 0 && seen >= (long)(total * share)) return i;
    }
    return BUCKETS;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: dnsload SERVER NAME SECONDS OUTSTANDING\n");
        return 2;
    }
    int outstanding = atoi(argv[4]);
    unsigned char question[512], answer[4096];
    int length = write_question(question, argv[2]);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
    if (length < 0 || outstanding < 1 || outstanding > MOST_OUTSTANDING ||
        inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
        fprintf(stderr, "dnsload: bad arguments\n");
        return 2;
    }
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval patience = {.tv_usec = 100000};
    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        connect(sock, (struct sockaddr *)&server, sizeof server) != 0) {
        perror("dnsload");
        return 1;
    }
    int64_t asked[MOST_OUTSTANDING], began = now_ns(), end = began + (int64_t)(atof(argv[3]) * 1e9), now;
    uint16_t ident[MOST_OUTSTANDING];
    uint16_t turn = 0;
    long answers = 0, lost = 0, bad = 0;
    int records = -1;

    memset(asked, 0, sizeof asked);
    while ((now = now_ns()) < end) {
        for (int i = 0; i < outstanding; i++) {
            if (asked[i] && now - asked[i] < LOST_AFTER_NS) continue;
            lost += asked[i] != 0;
            ident[i] = (uint16_t)((turn++ & 0xff) << 8 | i);
            memcpy(question, &ident[i], 2);
            asked[i] = now_ns();
            if (send(sock, question, (size_t)length, 0) != length) bad++;
        }
        /* Waits for one answer, then takes what else is there. */
        ssize_t got = recv(sock, answer, sizeof answer, 0);
        for (; got >= 12; got = recv(sock, answer, sizeof answer, MSG_DONTWAIT)) {
            uint16_t id;
            memcpy(&id, answer, 2);
            int slot = id & 0xff;
            if (slot >= outstanding || ident[slot] != id || !asked[slot]) continue; /* late, counted as lost */
            long took = (long)((now_ns() - asked[slot]) / 1000);
            histogram[took < BUCKETS ? took : BUCKETS - 1]++;
            answers++;
            asked[slot] = 0;
            int count = answer[6] << 8 | answer[7];
            if ((answer[3] & 15) != 0 || count == 0) bad++;
            if (records < 0) records = count;
        }
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    printf("{\"answers\": %ld, \"lost\": %ld, \"bad\": %ld, \"records\": %d, \"seconds\": %.6f, \"p50_us\": %ld, "
           "\"p99_us\": %ld}\n",
           answers, lost, bad, records, seconds, percentile(answers, 0.50), percentile(answers, 0.99));
    return 0;
}
