/* The guest's workload: records that prove a point in time.
 *
 * Record n (4 KiB) holds its number, its disk, a checksum and a payload derived from both, and goes
 * into slot n % 2048 of the file "ring" on disk 0, fdatasync, then on disk 1, fdatasync, and so on;
 * then n + 1. So at any instant the disks hold exactly the last 2048 numbers each, and the newest
 * number of a disk is that of the disk before it or one less. tests/live/verify.py reads the rings
 * out of copied images and holds them to that.
 *
 * One thread writes, and blocks when the disk does (a frozen file system, a paused or stalled
 * guest). The other, the main thread, reads commands from and writes lines to the control port, and
 * never touches a disk:
 *
 *   says   hello DISKS          started; the rings are read
 *          ready N              writing starts after record N
 *          round N              the last whole round, five times a second while it changes
 *          window ROUNDS P50 P99 MAX   latency of write + fdatasync in microseconds, once a second,
 * when asked for error DISK N ERRNO TEXT     a write failed; it is tried again stopped N | going N
 * answers to stop and go, when the round at hand is finished at N                 answer to where
 *          pong                 answer to ping
 *   hears  stop | go | where | ping | latency on | latency off | rate ROUNDS-A-SECOND (0: as fast
 * as it can) poweroff | reboot    the program ends, and init does it
 *
 * Usage: writer PORT RATE (go|stop) (on|off) DIRECTORY…
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SLOTS = 2048,
    RECORD = 4096,
    HEADER = 24,
    WORDS = (RECORD - HEADER) / 4,
    MAX_DISKS = 32,
    MAX_SAMPLES = 1 << 16
};

typedef struct {
    char magic[8];
    uint64_t number;
    uint32_t disk;
    uint32_t crc; /* zlib's crc32 of the whole record, with this field 0 */
    uint32_t payload[WORDS];
} Record;

_Static_assert(sizeof (Record) == RECORD, "a record is one page");

static int port;
static int n_disks;
static int ring[MAX_DISKS];
static uint32_t crc_table[256];

/* Shared by the two threads, under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t last; /* the last whole round */
static int running, idle;
static double rate;
static uint32_t samples[MAX_SAMPLES];
static unsigned n_samples;

static void say (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

static void say (const char *format, ...)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    char line[512];
    va_list ap;

    va_start (ap, format);
    int n = vsnprintf (line, sizeof line - 1, format, ap);
    va_end (ap);
    if (n > (int) sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    pthread_mutex_lock (&one);
    for (int done = 0; done < n;) {
        ssize_t r = write (port, line + done, n - done);
        if (r > 0)
            done += r;
        else if (r < 0 && errno != EINTR && errno != EAGAIN)
            break;
        else if (r < 0 && errno == EAGAIN)
            poll (NULL, 0, 1); /* nobody has opened the other end yet */
    }
    pthread_mutex_unlock (&one);
}

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint32_t crc32 (const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t c = ~0u;

    if (!crc_table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t v = i;
            for (int k = 0; k < 8; k++)
                v = v & 1 ? 0xedb88320u ^ v >> 1 : v >> 1;
            crc_table[i] = v;
        }
    while (size--)
        c = crc_table[(c ^ *p++) & 0xff] ^ c >> 8;
    return ~c;
}

/* Mersenne Twister, seeded as Python's random.Random (seed) for a seed of 32 to 63 bits, so that
 * the verifier makes the same payload by randbytes () at the speed of C. */
static void payload_fill (uint32_t *out, uint64_t seed)
{
    enum { N = 624, M = 397 };
    uint32_t mt[N], key[2] = { (uint32_t) seed, (uint32_t) (seed >> 32) };
    unsigned n_key = key[1] ? 2 : 1, i = 1, j = 0;

    mt[0] = 19650218u;
    for (unsigned k = 1; k < N; k++)
        mt[k] = 1812433253u * (mt[k - 1] ^ mt[k - 1] >> 30) + k;
    for (unsigned k = N; k; k--) {
        mt[i] = (mt[i] ^ (mt[i - 1] ^ mt[i - 1] >> 30) * 1664525u) + key[j] + j;
        if (++i >= N) {
            mt[0] = mt[N - 1];
            i = 1;
        }
        if (++j >= n_key)
            j = 0;
    }
    for (unsigned k = N - 1; k; k--) {
        mt[i] = (mt[i] ^ (mt[i - 1] ^ mt[i - 1] >> 30) * 1566083941u) - i;
        if (++i >= N) {
            mt[0] = mt[N - 1];
            i = 1;
        }
    }
    mt[0] = 0x80000000u;
    for (unsigned made = 0; made < WORDS;) {
        for (unsigned k = 0; k < N; k++) {
            uint32_t y = (mt[k] & 0x80000000u) | (mt[(k + 1) % N] & 0x7fffffffu);
            mt[k] = mt[(k + M) % N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        for (unsigned k = 0; k < N && made < WORDS; k++) {
            uint32_t y = mt[k];
            y ^= y >> 11;
            y ^= y << 7 & 0x9d2c5680u;
            y ^= y << 15 & 0xefc60000u;
            out[made++] = y ^ y >> 18;
        }
    }
}

static void record_make (Record *r, uint64_t number, uint32_t disk)
{
    memcpy (r->magic, "BAKREC1\n", 8);
    r->number = number;
    r->disk = disk;
    r->crc = 0;
    payload_fill (r->payload, number << 8 | disk);
    r->crc = crc32 (r, sizeof *r);
}

static int record_write (int disk, uint64_t number)
{
    Record r;
    record_make (&r, number, disk);
    if (pwrite (ring[disk], &r, sizeof r, (off_t) (number % SLOTS) * RECORD) != sizeof r)
        return errno ? errno : EIO;
    return fdatasync (ring[disk]) ? errno : 0;
}

/* Opens a disk's ring; returns its newest number, 0 if it is new. */
static uint64_t ring_open (int disk, const char *directory)
{
    char path[256];
    uint64_t newest = 0;
    static Record r;

    snprintf (path, sizeof path, "%s/ring", directory);
    ring[disk] = open (path, O_RDWR | O_CREAT, 0644);
    if (ring[disk] < 0) {
        say ("error %d 0 %d open %s", disk, errno, strerror (errno));
        exit (1);
    }
    for (int slot = 0; slot < SLOTS; slot++)
        if (pread (ring[disk], &r, sizeof r, (off_t) slot * RECORD) == sizeof r
            && r.disk == (uint32_t) disk && memcmp (r.magic, "BAKREC1\n", 8) == 0
            && r.number > newest)
            newest = r.number;
    return newest;
}

/* A new ring begins with the numbers 1 to 2048, so that it is full from the start. */
static void ring_fill (int disk)
{
    static Record r[64];

    for (uint64_t n = 1; n <= SLOTS; n += 64) {
        for (int k = 0; k < 64; k++)
            record_make (&r[k], n + k, disk);
        for (int k = 0; k < 64; k++)
            if (pwrite (ring[disk], &r[k], sizeof r[k], (off_t) ((n + k) % SLOTS) * RECORD)
                != sizeof r[k])
                say ("error %d %llu %d %s", disk, (unsigned long long) n, errno, strerror (errno));
    }
}

static void *write_rounds (void *unused)
{
    double due = now ();

    for (;;) {
        pthread_mutex_lock (&lock);
        while (!running) {
            idle = 1;
            pthread_cond_broadcast (&changed);
            pthread_cond_wait (&changed, &lock);
            due = now ();
        }
        idle = 0;
        uint64_t n = last + 1;
        double pace = rate > 0 ? 1 / rate : 0;
        pthread_mutex_unlock (&lock);

        double wait = due - now ();
        if (pace > 0 && wait > 0) {
            struct timespec t = { (time_t) wait, (long) ((wait - (time_t) wait) * 1e9) };
            nanosleep (&t, NULL);
        }
        due = (pace > 0 && wait > -1 ? due : now ()) + pace;

        for (int disk = 0; disk < n_disks; disk++) {
            for (;;) {
                double begin = now ();
                int failed = record_write (disk, n);
                uint32_t took = (uint32_t) ((now () - begin) * 1e6);

                pthread_mutex_lock (&lock);
                if (n_samples < MAX_SAMPLES)
                    samples[n_samples++] = took;
                pthread_mutex_unlock (&lock);
                if (!failed)
                    break;
                say ("error %d %llu %d %s", disk, (unsigned long long) n, failed,
                     strerror (failed));
                poll (NULL, 0, 100);
            }
        }
        pthread_mutex_lock (&lock);
        last = n;
        pthread_mutex_unlock (&lock);
    }
    return unused;
}

static int by_size (const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return x < y ? -1 : x > y;
}

static void say_window (void)
{
    static uint32_t sorted[MAX_SAMPLES];
    unsigned n;

    pthread_mutex_lock (&lock);
    n = n_samples;
    memcpy (sorted, samples, n * sizeof *sorted);
    n_samples = 0;
    pthread_mutex_unlock (&lock);
    qsort (sorted, n, sizeof *sorted, by_size);
    if (n)
        say ("window %u %u %u %u", n / n_disks, sorted[n / 2], sorted[n - 1 - n / 100],
             sorted[n - 1]);
    else
        say ("window 0 0 0 0");
}

static uint64_t last_round (void)
{
    pthread_mutex_lock (&lock);
    uint64_t n = last;
    pthread_mutex_unlock (&lock);
    return n;
}

static void set_running (int on)
{
    pthread_mutex_lock (&lock);
    running = on;
    pthread_cond_broadcast (&changed);
    while (!on && !idle)
        pthread_cond_wait (&changed, &lock);
    pthread_mutex_unlock (&lock);
    say ("%s %llu", on ? "going" : "stopped", (unsigned long long) last_round ());
}

/* Returns 0 when the program is to end. */
static int obey (const char *line, int *latency)
{
    if (strcmp (line, "stop") == 0)
        set_running (0);
    else if (strcmp (line, "go") == 0)
        set_running (1);
    else if (strcmp (line, "where") == 0)
        say ("at %llu", (unsigned long long) last_round ());
    else if (strcmp (line, "ping") == 0)
        say ("pong");
    else if (strcmp (line, "latency on") == 0 || strcmp (line, "latency off") == 0) {
        *latency = line[9] == 'n';
        pthread_mutex_lock (&lock);
        n_samples = 0;
        pthread_mutex_unlock (&lock);
        say ("latency %s", *latency ? "on" : "off");
    } else if (strncmp (line, "rate ", 5) == 0) {
        pthread_mutex_lock (&lock);
        rate = atof (line + 5);
        pthread_mutex_unlock (&lock);
        say ("rate %s", line + 5);
    } else if (strcmp (line, "poweroff") == 0 || strcmp (line, "reboot") == 0) {
        puts (line);
        return 0;
    } else
        say ("what? %s", line);
    return 1;
}

static void serve (int latency)
{
    char line[256];
    size_t have = 0;
    double next_round = now (), next_window = now () + 1;
    uint64_t said = last_round ();

    for (;;) {
        struct pollfd p = { port, POLLIN, 0 };
        int got = poll (&p, 1, 50);

        if (got > 0 && (p.revents & POLLIN)) {
            ssize_t r = read (port, line + have, sizeof line - 1 - have);
            have += r > 0 ? r : 0;
            line[have] = 0;
            for (char *end; (end = strchr (line, '\n'));) {
                *end++ = 0;
                if (!obey (line, &latency))
                    return;
                have -= end - line;
                memmove (line, end, have + 1);
            }
            if (have == sizeof line - 1)
                have = 0;
        } else if (got > 0)
            poll (NULL, 0, 20); /* nobody at the other end: poll would return at once */
        if (now () >= next_round && last_round () != said) {
            said = last_round ();
            say ("round %llu", (unsigned long long) said);
            next_round = now () + 0.2;
        }
        if (latency && now () >= next_window) {
            say_window ();
            next_window += 1;
        }
    }
}

int main (int argc, char **argv)
{
    if (argc < 6 || argc - 5 > MAX_DISKS)
        return 2;
    port = open (argv[1], O_RDWR);
    if (port < 0)
        return 1;
    rate = atof (argv[2]);
    n_disks = argc - 5;

    uint64_t newest[MAX_DISKS], top = 0;
    for (int disk = 0; disk < n_disks; disk++) {
        newest[disk] = ring_open (disk, argv[5 + disk]);
        top = newest[disk] > top ? newest[disk] : top;
    }
    say ("hello %d", n_disks);
    for (int disk = 0; disk < n_disks; disk++) {
        if (!newest[disk])
            ring_fill (disk);
    }
    if (top < SLOTS)
        top = SLOTS;
    /* a round that a crash cut in half is finished first */
    for (int disk = 0; disk < n_disks; disk++)
        record_write (disk, top);
    sync ();
    last = top;
    running = strcmp (argv[3], "go") == 0;
    say ("ready %llu", (unsigned long long) last);

    pthread_t thread;
    pthread_create (&thread, NULL, write_rounds, NULL);
    serve (strcmp (argv[4], "on") == 0);
    return 0;
}
