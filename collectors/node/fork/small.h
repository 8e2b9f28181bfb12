/* small.h - small files, numbers, memory and time, by system calls alone. */
#ifndef PILLION_FORK_SMALL_H
#define PILLION_FORK_SMALL_H

#include "collectors/node/fork/outside.h"

static int same(const char *a, const char *b) {
    while (*a != '\0' && *a == *b)
        a++, b++;
    return *a == *b;
}

static int contains(const char *text, const char *part) {
    for (; *text != '\0'; text++) {
        const char *t = text, *p = part;

        while (*p != '\0' && *t == *p)
            t++, p++;
        if (*p == '\0')
            return 1;
    }
    return *part == '\0';
}

static long open_file(const char *path, int flags) {
    return CALL(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC);
}

/* What fits of a small file, terminated; a negative errno. */
static long read_file(const char *path, char *out, size_t size) {
    long fd = open_file(path, 0), n;

    if (fd < 0)
        return fd;
    n = CALL(SYS_read, fd, out, size - 1);
    (void)CALL(SYS_close, fd, 0, 0);
    if (n >= 0)
        out[n] = '\0';
    return n;
}

static u64 read_number(const char *p) {
    u64 v = 0;

    while (*p == ' ' || *p == '\t')
        p++;
    while (*p >= '0' && *p <= '9')
        v = v * 10 + (u64)(*p++ - '0');
    return v;
}

static const char *read_hex(const char *p, u64 *ret) {
    u64 v = 0;

    for (;; p++) {
        if (*p >= '0' && *p <= '9')
            v = v << 4 | (u64)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            v = v << 4 | (u64)(*p - 'a' + 10);
        else
            break;
    }
    *ret = v;
    return p;
}

static char *put_number(char *p, u64 v) {
    char digits[20];
    u32 n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    while (n > 0)
        *p++ = digits[--n];
    *p = '\0';
    return p;
}

static u64 now_us(void) {
    u64 t[2] = {0, 0};

    (void)CALL(SYS_clock_gettime, 1, t, 0);
    return t[0] * 1000000 + t[1] / 1000;
}

static void *map(size_t size, int shared) {
    long p = sys(SYS_mmap, 0, (long)size, 3, (shared ? 1 : 2) | 0x20, -1, 0);

    return p < 0 && p > -4096 ? (void *)0 : (void *)p;
}

/* Data of the process as RLIMIT_DATA counts it. */
static u64 data_bytes(void) {
    char text[4096];

    if (read_file("/proc/self/status", text, sizeof(text)) <= 0)
        return 0;
    for (char *p = text; *p != '\0'; p++)
        if (p[0] == '\n' && p[1] == 'V' && p[2] == 'm' && p[3] == 'D' && p[4] == 'a')
            return read_number(p + 8) * 1024; /* "\nVmData:   123 kB" */
    return 0;
}

#endif
