// A confined hook that tries to get out, where it takes threads and exact system calls. It says what came of each attempt.
// argv[1] is the object: "DIRECTORY GRANTED_PORT OTHER_PORT".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROTOCOL 0x484b
#define ROUNDS 20000

static char granted[4096], secret[4096], read_only[4096], link_path[4096], spare[4096], other_path[4096], local[4096];
static int stop;

static void say(const char *name, long result) {
    dprintf(2, "%s: %s\n", name, result >= 0 ? "allowed" : strerrorname_np(errno));
}

static void say_whether(const char *name, int held) { dprintf(2, "%s: %s\n", name, held ? "held" : "BROKEN"); }

static const char *in(const char *directory, const char *name, char *path) {
    snprintf(path, 4096, "%s/%s", directory, name);
    return path;
}

// A link that leads to a granted file and to a secret one in turn.
static void *flip_link(void *unused) {
    for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        if (symlink(i % 2 ? secret : other_path, spare) == 0) rename(spare, link_path);
    }
    return unused;
}

static void symlink_race(void) {
    pthread_t thread;
    int held = 1, opened = 0;
    symlink(other_path, link_path);
    pthread_create(&thread, NULL, flip_link, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        char text[64] = "";
        int file = open(link_path, O_RDWR);
        if (file < 0) continue;
        opened++;
        if (pread(file, text, sizeof text - 1, 0) < 0 || strstr(text, "secret")) held = 0;
        close(file);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    unlink(link_path);
    unlink(spare);
    say_whether("symlink race", held && opened > 0);
}

static struct sockaddr_in address;
static in_port_t ports[2];

static void *flip_port(void *unused) {
    for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) __atomic_store_n(&address.sin_port, ports[i % 2], __ATOMIC_RELAXED);
    return unused;
}

// The address changes while the runtime looks at it. Whether the other port was reached, its listener says.
static void address_race(void) {
    pthread_t thread;
    int connected = 0;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = ports[0];
    __atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
    pthread_create(&thread, NULL, flip_port, NULL);
    for (int i = 0; i < 500; i++) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
            getpeername(fd, (struct sockaddr *)&peer, &length);
            connected += peer.sin_port == ports[0] ? 1 : 1000000;
        }
        close(fd);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    say_whether("address race", connected > 0 && connected < 1000000);
}

// A service of root, such as D-Bus, behind a socket with a path: every kind of socket that the hook can get.
static void local_service(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int pair[2];
    strncpy(to.sun_path, local, sizeof to.sun_path - 1);
    struct iovec vector = {"x", 1};
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &vector, .msg_iovlen = 1};
    int broker = socket(AF_UNIX, SOCK_SEQPACKET, PROTOCOL);
    say("connect the runtime's socket", connect(broker, (struct sockaddr *)&to, sizeof to));
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    say("connect one of a pair", connect(pair[0], (struct sockaddr *)&to, sizeof to));
    say("send from one of a pair", sendmsg(pair[0], &message, MSG_NOSIGNAL));
    say("bind one of a pair", bind(pair[0], (struct sockaddr *)&to, sizeof to));
    say("connect a TCP socket", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to));
    say("a local socket", socket(AF_UNIX, SOCK_STREAM, 0));
    close(broker);
}

static int send_with(int fd, const void *bytes, size_t length, int *fds, int count) {
    char control[CMSG_SPACE(253 * sizeof(int))] = {0};
    struct iovec vector = {(void *)bytes, length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

// What the runtime gets through its own socket must neither stay open there nor be used.
static void descriptor_tricks(void) {
    int broker = socket(AF_UNIX, SOCK_SEQPACKET, PROTOCOL), fds[253];
    char answer[512] = "";
    const char request[] = "\1\0\0\0/\0/usr/bin/true\0true";
    for (int i = 0; i < 253; i++) fds[i] = broker;
    send_with(broker, request, sizeof request, fds, 253);
    say_whether("253 descriptors", recv(broker, answer, sizeof answer, 0) > 0 && answer[0] == 'E');
    close(broker);
    // A cycle: the socket is in flight within itself, and nobody reads it.
    for (int i = 0; i < 20; i++) {
        int pair[2];
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
        send_with(pair[0], "x", 1, pair, 2);
        close(pair[0]);
        close(pair[1]);
    }
    // Its directories as streams, opened without the right to read.
    broker = socket(AF_UNIX, SOCK_SEQPACKET, PROTOCOL);
    int path = open(secret, O_PATH);
    fds[0] = fds[1] = path;
    fds[2] = 2;
    send_with(broker, request, sizeof request, fds, 3);
    recv(broker, answer, sizeof answer, 0);
    say_whether("streams that are only paths", answer[0] == 'E' || answer[0] == 'G');
    close(broker);
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", path);
    say("open a path's descriptor", open(name, O_RDONLY));
    say("openat below a path's descriptor", openat(open(granted, O_PATH), "../secret", O_RDONLY));
}

// One that sends requests and never reads: the runtime is not to wait for it.
static void never_reads(void) {
    int broker = socket(AF_UNIX, SOCK_SEQPACKET, PROTOCOL), fds[3] = {0, 2, 2};
    const char request[] = "\1\0\0\0/\0/usr/bin/true\0true";
    for (int i = 0; i < 1000; i++) {
        if (send_with(broker, request, sizeof request, fds, 3) < 0) break;
        if (send(broker, "K\0", 2, MSG_NOSIGNAL) < 0) break;
    }
    say_whether("never reads", 1);
}

// More shims at once than the runtime serves. Each ends.
static void many_shims(void) {
    enum { MANY = 1000 };
    int ran = 0, refused = 0, status;
    for (int i = 0; i < MANY; i++) {
        pid_t child = fork();
        if (child == 0) {
            dup2(open("/dev/null", O_WRONLY), 2);
            execl("/usr/bin/true", "true", NULL);
            _exit(99);
        }
    }
    while (wait(&status) > 0) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) ran++;
        else if (WIFEXITED(status) && WEXITSTATUS(status) >= 125) refused++;
    }
    say_whether("many shims", ran > 0 && ran + refused == MANY);
}

static void programs(void) {
    char path[4096];
    int file = open(granted, O_TMPFILE | O_RDWR, 0700);
    say("a file without a name", file);
    say("memfd_create", syscall(SYS_memfd_create, "x", 0));
    say("execveat", syscall(SYS_execveat, file, "", NULL, NULL, AT_EMPTY_PATH));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    say("execute a descriptor", execl(path, "x", NULL));
    say("rename exchange", renameat2(AT_FDCWD, in(granted, "file", path), AT_FDCWD, read_only, RENAME_EXCHANGE));
    say("watch a directory", inotify_add_watch(inotify_init1(0), "/root", IN_ALL_EVENTS));
    say("io_uring_setup", syscall(SYS_io_uring_setup, 4, NULL));
    say("shared memory", open("/dev/shm/x", O_CREAT | O_RDWR, 0600));
}

static void filters(void) {
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};
    say("another listener", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
    prctl(PR_SET_SECUREBITS, 0);
    say("securebits", prctl(PR_SET_SECUREBITS, 0));
    say("ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
#ifdef __x86_64__
    pid_t child = fork();
    int status = 0;
    if (child == 0) {
        long result = 39;
        // chmod by the 32-bit system calls.
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(15), "b"(0), "c"(0777) : "memory");
        _exit(result == -EPERM || result == -ENOSYS ? 0 : 1);
    }
    waitpid(child, &status, 0);
    say_whether("32-bit system calls", (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) || status == 0);
#endif
}

int main(int argc, char **argv) {
    char directory[4096];
    int to, elsewhere;
    if (argc < 2 || sscanf(argv[1], "%4000s %d %d", directory, &to, &elsewhere) != 3) return 2;
    ports[0] = htons(to);
    ports[1] = htons(elsewhere);
    in(directory, "granted", granted);
    in(directory, "secret", secret);
    in(directory, "read/file", read_only);
    in(granted, "link", link_path);
    in(granted, "spare", spare);
    in(granted, "file", other_path);
    in(granted, "socket", local);
    symlink_race();
    address_race();
    local_service();
    descriptor_tricks();
    never_reads();
    many_shims();
    programs();
    filters();
    execl("/usr/bin/true", "true", NULL);
    return 1;
}
