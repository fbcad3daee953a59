// A confined hook that sends datagrams while other threads change the address, the message and the descriptor that it uses.
// argv[1] is the object: "GRANTED_PORT OTHER_PORT".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS 3000

static struct sockaddr_in addresses[2], address;
static struct msghdr message;
static struct iovec part = {"x", 1};
static int stop, udp, pair[2], used;

static void *flip(void *unused) {
    for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        __atomic_store_n(&address.sin_port, addresses[i % 2].sin_port, __ATOMIC_RELAXED);
        __atomic_store_n(&message.msg_name, i % 3 ? &addresses[i % 2] : NULL, __ATOMIC_RELAXED);
    }
    return unused;
}

// A socket pair takes no address, so an answer for it must not be one for the UDP socket.
static void *swap(void *unused) {
    for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) dup2(i % 2 ? udp : pair[0], used);
    return unused;
}

int main(int argc, char **argv) {
    int ports[2], sent = 0;
    pthread_t threads[2];
    char drained[4096];
    if (argc < 2 || sscanf(argv[1], "%d %d", &ports[0], &ports[1]) != 2) return 2;
    for (int i = 0; i < 2; i++) {
        addresses[i].sin_family = AF_INET;
        addresses[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        addresses[i].sin_port = htons(ports[i]);
    }
    address = addresses[0];
    message = (struct msghdr){.msg_name = &addresses[0], .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1};
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 3;
    used = dup(udp);
    pthread_create(&threads[0], NULL, flip, NULL);
    pthread_create(&threads[1], NULL, swap, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        struct mmsghdr several = {.msg_hdr = message};
        sent += sendto(used, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address) == 1;
        sent += sendmsg(used, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
        sent += sendmmsg(used, &several, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
        if (connect(used, (struct sockaddr *)&address, sizeof address) == 0) sent += send(used, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
        while (recv(pair[1], drained, sizeof drained, MSG_DONTWAIT) > 0) {}
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return sent > 0 ? 0 : 1;
}
