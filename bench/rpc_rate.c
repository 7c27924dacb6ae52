/* rpc_rate SOCKET PROCEDURE SECONDS DEPTH [NAME]: how many calls a second a daemon of libvirt's protocol answers on one
 * connection. Plain sockets and nothing of either library, so that both daemons have the same client.
 *
 * PROCEDURE 157 (library version: no arguments), 23 (look a domain up by NAME), 212 (state of the domain NAME).
 * DEPTH calls are kept in flight. Prints calls per second. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 28, PROGRAM = 0x20008086, BUFFER = 1 << 20 };

static unsigned char in[BUFFER], out[BUFFER], payload[4096];
static size_t in_length;

static void die (const char *what)
{
    fprintf (stderr, "rpc_rate: %s: %s\n", what, strerror (errno));
    exit (1);
}

static void put32 (unsigned char *to, uint32_t value)
{
    value = htonl (value);
    memcpy (to, &value, 4);
}

static uint32_t get32 (const unsigned char *from)
{
    uint32_t value;
    memcpy (&value, from, 4);
    return ntohl (value);
}

static size_t pack (unsigned char *to, uint32_t procedure, uint32_t serial, const unsigned char *data, size_t length)
{
    const uint32_t words[] = { HEADER + length, PROGRAM, 1, procedure, 0, serial, 0 };
    for (int i = 0; i < 7; i++)
        put32 (to + 4 * i, words[i]);
    memcpy (to + HEADER, data, length);
    return HEADER + length;
}

static void send_all (int fd, const unsigned char *data, size_t length)
{
    while (length) {
        ssize_t n = write (fd, data, length);
        if (n <= 0)
            die ("write");
        data += n;
        length -= n;
    }
}

/* Whole replies that are there or come, at least one; the payload of the first one at *ret. */
static int receive (int fd, const unsigned char **ret, size_t *ret_length)
{
    static size_t used;
    int count = 0;
    memmove (in, in + used, in_length -= used);
    used = 0;
    for (;;) {
        while (in_length - used >= 4 && in_length - used >= get32 (in + used)) {
            size_t length = get32 (in + used);
            if (get32 (in + used + 24) != 0) {
                fprintf (stderr, "rpc_rate: an error came back\n");
                exit (1);
            }
            if (count++ == 0 && ret) {
                *ret = in + used + HEADER;
                *ret_length = length - HEADER;
            }
            used += length;
        }
        if (count)
            return count;
        ssize_t n = read (fd, in + in_length, sizeof in - in_length);
        if (n <= 0)
            die ("read");
        in_length += n;
    }
}

static size_t string (unsigned char *to, const char *text)
{
    size_t length = strlen (text), padded = (length + 3) & ~(size_t) 3;
    put32 (to, length);
    memset (to + 4, 0, padded);
    memcpy (to + 4, text, length);
    return 4 + padded;
}

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main (int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (argc < 5)
        return 2;
    uint32_t procedure = atoi (argv[2]), serial = 0;
    double seconds = atof (argv[3]);
    int depth = atoi (argv[4]), fd = socket (AF_UNIX, SOCK_STREAM, 0);
    size_t length = 0;
    strncpy (address.sun_path, argv[1], sizeof address.sun_path - 1);
    if (fd < 0 || connect (fd, (struct sockaddr *) &address, sizeof address) != 0)
        die (argv[1]);

    unsigned char open_args[64];
    put32 (open_args, 1);
    size_t n = 4 + string (open_args + 4, argc > 6 ? argv[6] : "qemu:///system");
    put32 (open_args + n, 0);
    send_all (fd, out, pack (out, 66, serial++, NULL, 0));
    receive (fd, NULL, NULL);
    send_all (fd, out, pack (out, 1, serial++, open_args, n + 4));
    receive (fd, NULL, NULL);
    if (procedure != 157) {
        length = string (payload, argv[5]);
        if (procedure == 212) {
            const unsigned char *reply;
            send_all (fd, out, pack (out, 23, serial++, payload, length));
            receive (fd, &reply, &length);
            memcpy (payload, reply, length);
            put32 (payload + length, 0);
            length += 4;
        }
    }

    long done = 0;
    int flying = 0;
    double begin = now (), end = begin + seconds, at = begin;
    while (at < end) {
        size_t fill = 0;
        for (; flying < depth; flying++)
            fill += pack (out + fill, procedure, serial++, payload, length);
        send_all (fd, out, fill);
        int got = receive (fd, NULL, NULL);
        flying -= got;
        done += got;
        at = now ();
    }
    printf ("%.0f\n", done / (at - begin));
    return 0;
}
