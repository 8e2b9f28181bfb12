#include "uploader/sinks/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "uploader/batch.h"

/* d: a decimal digit, x: a hexadecimal one, else itself. */
static const char pattern[] = "pillion-ddddddddTddddddZ-xxxxxxxx-dddddd.ndjson.gz";
#define BOOT_OFFSET 25

_Static_assert(sizeof(pattern) <= SINK_DIR_NAME_BYTES, "a name fits");

void sink_dir_name(char out[SINK_DIR_NAME_BYTES], int64_t wall_ms, const char *boot, unsigned n) {
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;

    (void)gmtime_r(&s, &tm);
    (void)snprintf(out, SINK_DIR_NAME_BYTES,
                   "pillion-%04u%02u%02uT%02u%02u%02uZ-%.8s-%06u.ndjson.gz",
                   (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)(tm.tm_mon + 1) % 100u,
                   (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
                   (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u, boot, n % 1000000u);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool sink_dir_is_ours(const char *name) {
    size_t i;

    for (i = 0; pattern[i] != '\0'; i++) {
        /* The letters d and x of "pillion" and "ndjson" stand for themselves. */
        bool field = i >= sizeof("pillion-") - 1 && i < sizeof(pattern) - sizeof(".ndjson.gz");
        bool digit = field && pattern[i] == 'd', hex = field && pattern[i] == 'x';

        if (digit ? !is_digit(name[i])
            : hex ? !is_digit(name[i]) && (name[i] < 'a' || name[i] > 'f')
                  : name[i] != pattern[i])
            return false;
    }
    return name[i] == '\0';
}

static bool is_boot(const char *name, const char *boot) {
    return strncmp(name + BOOT_OFFSET, boot, SINK_DIR_BOOT) == 0;
}

int64_t sink_dir_good_bytes(int fd) {
    unsigned char head[BATCH_HEAD_BYTES];
    struct stat st;
    int64_t at = 0;

    if (fstat(fd, &st) != 0)
        return -errno;
    while (at < st.st_size) {
        ssize_t n = pread(fd, head, sizeof(head), at);
        int64_t len;

        if (n <= 0)
            return n < 0 ? -errno : at;
        len = batch_member_bytes(head, (size_t)n);
        if (len == -EBADMSG)
            return len;
        if (len == -EAGAIN || len > st.st_size - at)
            break;
        at += len;
    }
    return at;
}

static bool mend_one(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool mended = false;
    struct stat st;
    int64_t good;

    if (fd < 0)
        return false;
    /* Locked: another helper writes to it. A file system without locks: better not. */
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        good = sink_dir_good_bytes(fd);
        if (good == 0)
            mended = unlinkat(dirfd, name, 0) == 0;
        else if (good > 0 && good < st.st_size)
            mended = ftruncate(fd, good) == 0;
    }
    close(fd);
    return mended;
}

/* fdopendir() takes its descriptor and shares the offset: a second one of our own. */
static DIR *list(int dirfd) {
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (d == NULL && fd >= 0)
        close(fd);
    return d;
}

unsigned sink_dir_mend(int dirfd, const char *boot) {
    DIR *d = list(dirfd);
    struct dirent *e;
    unsigned n = 0;

    if (d == NULL)
        return 0;
    while ((e = readdir(d)) != NULL)
        if (sink_dir_is_ours(e->d_name) && !is_boot(e->d_name, boot) && mend_one(dirfd, e->d_name))
            n++;
    (void)closedir(d); /* was only read */
    return n;
}

static bool is_older(const char *a, const char *b, const char *boot) {
    bool a_now = is_boot(a, boot), b_now = is_boot(b, boot);

    if (a_now != b_now)
        return b_now;
    if (a_now) /* by number: the clock may have been set back */
        return strcmp(a + BOOT_OFFSET, b + BOOT_OFFSET) < 0;
    return strcmp(a, b) < 0;
}

/* What is there, and the oldest of it. */
static void survey(int dirfd, const char *boot, unsigned *ret_n, uint64_t *ret_bytes,
                   char oldest[SINK_DIR_NAME_BYTES]) {
    DIR *d = list(dirfd);
    struct dirent *e;
    struct stat st;

    *ret_n = 0;
    *ret_bytes = 0;
    if (d == NULL)
        return;
    while ((e = readdir(d)) != NULL) {
        if (!sink_dir_is_ours(e->d_name) ||
            fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (*ret_n == 0 || is_older(e->d_name, oldest, boot))
            memcpy(oldest, e->d_name, sizeof(pattern));
        ++*ret_n;
        *ret_bytes += (uint64_t)st.st_size;
    }
    (void)closedir(d); /* was only read */
}

/* Looks again after each removal: happens once in 8 MiB, and needs no memory. */
unsigned sink_dir_make_room(int dirfd, const char *boot, uint64_t more) {
    char oldest[SINK_DIR_NAME_BYTES];
    unsigned n, removed = 0;
    uint64_t bytes;

    for (;;) {
        survey(dirfd, boot, &n, &bytes, oldest);
        if (n == 0 || (n < LIMIT_SINK_FILES && bytes + more <= LIMIT_SINK_DIR_BYTES))
            return removed;
        if (unlinkat(dirfd, oldest, 0) != 0)
            return removed; /* not ours to remove: writing will say so if it matters */
        removed++;
    }
}
