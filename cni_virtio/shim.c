/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CNI plugin that runtimes execute: hands environment, stdin and an open fd of CNI_NETNS to the
 * agent, and the agent's reply to stdout. It knows nothing of networks; VERSION alone it answers.
 *
 * Request:  "CNV1", env length, stdin length, flags (bit 0: a netns fd rides along); env; stdin.
 * Reply:    exit status, length; what goes to stdout.     (All numbers 32 bits, little endian.)
 *
 * All memory is static: nothing that a caller sends can make it fail half-way. The build defines
 * CNI_VIRTIO_VERSION, as the agent has it.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <wchar.h>

#define STDIN_MAX (1024 * 1024)
#define ENV_MAX (64 * 1024)
/* In a chain the result has those before it: what came in, its characters escaped, and our own. */
#define REPLY_MAX (8 * 1024 * 1024)
#define SEND_TIMEOUT_S 5
#define DEFAULT_SOCKET "/run/cni-virtio/agent.sock"
#define SUPPORTED "\"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\""
#define FLAG_NETNS 1u

/* From linux/magic.h, linux/nsfs.h and linux/sched.h, which musl does not bring. */
#define NSFS_MAGIC 0x6e736673
#define NS_GET_NSTYPE _IO(0xb7, 0x3)
#define CLONE_NEWNET 0x40000000

enum cni_code {
    CNI_UNKNOWN_CONTAINER = 3,
    CNI_INVALID_ENVIRONMENT = 4,
    CNI_IO_FAILURE = 5,
    CNI_UNDECODABLE = 6,
    CNI_INVALID_CONFIG = 7,
    CNI_TRY_AGAIN = 11,
};

extern char **environ;

static char config[STDIN_MAX + 1];
static char env_block[ENV_MAX];
static char reply[REPLY_MAX];
static char cni_version[64] = "1.1.0"; /* unless the configuration says otherwise */
static char agent_socket[sizeof(((struct sockaddr_un *)0)->sun_path)] = DEFAULT_SOCKET;
static bool socket_usable = true;

/* Reads until the end or max bytes. -1 with errno if that fails. */
static ssize_t read_all(int fd, char *data, size_t max) {
    size_t length = 0;

    while (length < max) {
        ssize_t n = read(fd, data + length, max - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    return (ssize_t)length;
}

/* Prints text as the inside of a JSON string; bytes that are no UTF-8 become U+FFFD. */
static void print_json(const char *text) {
    for (size_t n; *text != '\0'; text += n) {
        n = mbrtowc(NULL, text, strlen(text), &(mbstate_t){0});
        if (n > MB_LEN_MAX) {
            fputs("\\ufffd", stdout);
            n = 1;
        } else if (*text == '"' || *text == '\\') {
            printf("\\%c", *text);
        } else if ((*text >= 0 && *text < 0x20) || *text == 0x7f) {
            printf("\\u%04x", (unsigned int)*text);
        } else {
            fwrite(text, 1, n, stdout);
        }
    }
}

/* Ends with a CNI error. */
__attribute__((format(printf, 3, 4))) static _Noreturn void fail(enum cni_code code,
                                                                 const char *details,
                                                                 const char *format, ...) {
    static char message[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    fputs("{\n  \"cniVersion\": \"", stdout);
    print_json(cni_version);
    printf("\",\n  \"code\": %d,\n  \"msg\": \"", (int)code);
    print_json(message);
    fputs("\",\n  \"details\": \"", stdout);
    print_json(details);
    fputs("\"\n}\n", stdout);
    fflush(stdout);
    _exit(1);
}

/* Ends with "try again later", naming the agent's socket and the reason. */
static _Noreturn void fail_agent(const char *what, const char *reason) {
    fail(CNI_TRY_AGAIN, "is cni-virtio-agent running, with this agent.socket in its configuration?",
         "%s agent at '%s': %s", what, agent_socket, reason);
}

static const char *skip_space(const char *at) {
    return at + strspn(at, " \t\r\n");
}

/* From a string's opening quote to what follows it, NULL if it does not end. */
static const char *skip_string(const char *at) {
    for (at++; *at != '"'; at++) {
        if (*at == '\\')
            at++;
        if ((unsigned char)*at < 0x20)
            return NULL;
    }
    return at + 1;
}

/* From a value of any kind to the comma or bracket that ends it, NULL if nothing does. */
static const char *skip_value(const char *at) {
    size_t depth = 0;

    while (at != NULL && *at != '\0') {
        if (depth == 0 && strchr(",}]", *at) != NULL)
            return at;
        if (*at == '{' || *at == '[')
            depth++;
        else if (*at == '}' || *at == ']')
            depth--;
        at = *at == '"' ? skip_string(at) : at + 1;
    }
    return NULL;
}

/* Decodes \uXXXX, XXXX at digits, to UTF-8. Returns its length, 0 if it is no character, or NUL. */
static size_t decode_unicode(const char *digits, char *out) {
    char hex[5] = {0};
    size_t n;

    memcpy(hex, digits, strnlen(digits, 4));
    if (strspn(hex, "0123456789abcdefABCDEF") != 4 || strcmp(hex, "0000") == 0)
        return 0;
    n = wcrtomb(out, (wchar_t)strtoul(hex, NULL, 16), &(mbstate_t){0});
    return n > MB_LEN_MAX ? 0 : n;
}

/* Decodes the string whose opening quote is at. Returns whether it is well formed and fits. */
static bool decode_string(const char *at, char *out, size_t size) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    size_t length = 0;

    out[0] = '\0';
    for (at++; *at != '"'; at++) {
        char piece[MB_LEN_MAX] = {*at};
        size_t n = 1;

        if (*at == '\\') {
            const char *name = strchr(names, *++at);
            if (name != NULL)
                piece[0] = values[name - names];
            else if (*at == 'u' && (n = decode_unicode(at + 1, piece)) > 0)
                at += 4;
            else
                return false;
        }
        if (length + n >= size)
            return false;
        memcpy(out + length, piece, n);
        length += n;
        out[length] = '\0';
    }
    return true;
}

/* Notes the two keys of the configuration that concern the shim; the agent judges the rest. */
static void scan_config(void) {
    const char *at = skip_space(config), *key, *value;
    char name[16];

    if (*at != '{')
        return;
    do {
        key = skip_space(at + 1);
        if (*key != '"' || (at = skip_string(key)) == NULL || *(at = skip_space(at)) != ':')
            return;
        value = skip_space(at + 1);
        if ((at = skip_value(value)) == NULL)
            return;
        if (*value != '"' || !decode_string(key, name, sizeof(name)))
            continue;
        if (strcmp(name, "cniVersion") == 0)
            decode_string(value, cni_version, sizeof(cni_version));
        if (strcmp(name, "agentSocket") == 0)
            socket_usable =
                decode_string(value, agent_socket, sizeof(agent_socket)) && agent_socket[0] == '/';
    } while (*at == ',');
}

/* Reads the configuration; nothing there is fine, more than the limit is not. */
static size_t read_config(void) {
    ssize_t length = isatty(STDIN_FILENO) ? 0 : read_all(STDIN_FILENO, config, sizeof(config));

    if (length < 0)
        fail(CNI_IO_FAILURE, "", "cannot read the network configuration from stdin: %s",
             strerror(errno));
    if (length > STDIN_MAX)
        fail(CNI_UNDECODABLE, "", "the network configuration on stdin is over 1 MiB");
    scan_config();
    return (size_t)length;
}

/* Collects the environment that concerns the agent, NUL after each. */
static size_t collect_env(void) {
    static const char *const wanted[] = {"CNI_", "K8S_", "TRACEPARENT=", "TRACESTATE="};
    size_t length = 0;

    for (char **entry = environ; *entry != NULL; entry++) {
        size_t size = strlen(*entry) + 1;
        bool send = false;

        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
            send |= strncmp(*entry, wanted[i], strlen(wanted[i])) == 0;
        if (!send)
            continue;
        if (length + size > sizeof(env_block))
            fail(CNI_INVALID_ENVIRONMENT, "", "CNI_* and K8S_* variables are over 64 KiB together");
        memcpy(env_block + length, *entry, size);
        length += size;
    }
    return length;
}

/* Opens CNI_NETNS. -1 if the command can do without, as DEL can when the container is gone. */
static int open_netns(const char *command) {
    const char *path = getenv("CNI_NETNS");
    bool needed = strcmp(command, "ADD") == 0 || strcmp(command, "CHECK") == 0;
    struct statfs fs;
    int fd;

    if (!needed && strcmp(command, "DEL") != 0)
        return -1;
    if (path == NULL)
        path = "";
    if (path[0] == '\0' && needed)
        fail(CNI_INVALID_ENVIRONMENT, "the runtime must pass the path of the network namespace",
             "required env variable CNI_NETNS is missing");
    do /* O_NONBLOCK: it may be a FIFO */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    while (fd < 0 && errno == EINTR);
    if (fd < 0 && needed)
        fail(CNI_UNKNOWN_CONTAINER, "is the container gone?", "cannot open CNI_NETNS '%.500s': %s",
             path, strerror(errno));
    if (fd >= 0 && (fstatfs(fd, &fs) != 0 || (unsigned long)fs.f_type != NSFS_MAGIC ||
                    ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)) {
        if (needed)
            fail(CNI_UNKNOWN_CONTAINER, "", "CNI_NETNS '%.500s' is not a network namespace", path);
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Connects to the agent; neither this nor sending waits longer than SEND_TIMEOUT_S. */
static int connect_agent(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = SEND_TIMEOUT_S};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (!socket_usable)
        fail(CNI_INVALID_CONFIG, "",
             "agentSocket '%s' is not an absolute path of at most 107 bytes", agent_socket);
    memcpy(address.sun_path, agent_socket, sizeof(address.sun_path));
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
        fail_agent("cannot make a socket for the", strerror(errno));
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        if (errno != EINTR)
            fail_agent("cannot reach the",
                       errno == EAGAIN ? "it does not accept connections" : strerror(errno));
    return fd;
}

/* Sends all of it, netns (or -1) with its first byte. An agent that hung up may have replied. */
static void send_all(int fd, const void *data, size_t length, int netns) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {.header = {
                     .cmsg_len = CMSG_LEN(sizeof(int)),
                     .cmsg_level = SOL_SOCKET,
                     .cmsg_type = SCM_RIGHTS,
                 }};
    struct iovec piece = {(void *)data, length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    memcpy(CMSG_DATA(&control.header), &netns, sizeof(int));
    if (netns >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.space);
    }
    while (piece.iov_len > 0) {
        ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return;
        if (n < 0)
            fail_agent("cannot send to the",
                       errno == EAGAIN ? "it does not read" : strerror(errno));
        piece.iov_base = (char *)piece.iov_base + n;
        piece.iov_len -= (size_t)n;
        message.msg_control = NULL;
        message.msg_controllen = 0;
    }
}

/* Passes the whole reply on to stdout, or nothing of it. Returns the exit status it asks for. */
static int pass_reply(int fd) {
    uint32_t head[2] = {0};
    ssize_t n = read_all(fd, (char *)head, sizeof(head));
    uint32_t status = le32toh(head[0]), length = le32toh(head[1]);

    if (n < 0)
        fail_agent("no reply from the", strerror(errno));
    if (n != sizeof(head))
        fail_agent("no reply from the", "it closed the connection");
    if (status > 255 || length > sizeof(reply))
        fail_agent("broken reply from the", "not the agent's protocol");
    n = read_all(fd, reply, length);
    if (n != (ssize_t)length)
        fail_agent("broken reply from the", n < 0 ? strerror(errno) : "cut short");
    if (fwrite(reply, 1, length, stdout) != length || fflush(stdout) != 0) {
        fprintf(stderr, "cni-virtio: cannot write the result to stdout: %s\n", strerror(errno));
        return 1;
    }
    return (int)status;
}

/* Answers VERSION. */
static int print_version(void) {
    fputs("{\n  \"cniVersion\": \"", stdout);
    print_json(cni_version);
    fputs("\",\n  \"supportedVersions\": [" SUPPORTED "]\n}\n", stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
    const char *command = getenv("CNI_COMMAND");
    uint32_t head[4] = {0};
    size_t env_length, config_length;
    int netns, fd;

    /* If 0 to 2 are closed, no socket shall take stdout's place. */
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
        ;
    close(fd);
    setlocale(LC_CTYPE, "C.UTF-8");
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return puts("cni-virtio " CNI_VIRTIO_VERSION) < 0; /* doctor looks for this string */
    if (command == NULL || command[0] == '\0') {
        fputs("cni-virtio is a CNI plugin: container runtimes execute it\n", stderr);
        fail(CNI_INVALID_ENVIRONMENT, "the CNI specification says how a plugin is called",
             "required env variable CNI_COMMAND is missing");
    }
    config_length = read_config();
    if (strcmp(command, "VERSION") == 0)
        return print_version();

    env_length = collect_env();
    netns = open_netns(command);
    memcpy(&head[0], "CNV1", 4);
    head[1] = htole32((uint32_t)env_length);
    head[2] = htole32((uint32_t)config_length);
    head[3] = htole32(netns >= 0 ? FLAG_NETNS : 0);

    fd = connect_agent();
    send_all(fd, head, sizeof(head), netns);
    send_all(fd, env_block, env_length, -1);
    send_all(fd, config, config_length, -1);
    return pass_reply(fd);
}
