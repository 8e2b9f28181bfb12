#include "uploader/spool/positions.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/spool/crc32c.h"
#include "uploader/spool/fault.h"

#define FILE_NAME  "positions"
#define TEMP_NAME  "positions.new"
#define FIRST_LINE "pillion spool positions 1"
#define LINE_MAX_  16384u /* a path of 4 KiB, three bytes for one */
#define FILE_MAX_  (4u * 1024u * 1024u)

void positions_init(struct positions *p) {
    *p = (struct positions){.fd = -1, .synced = true};
}

void positions_clear(struct positions *p) {
    for (unsigned i = 0; i < p->n; i++)
        mem_free(p->items[i].sink);
    if (p->fd >= 0)
        (void)close(p->fd); /* what mattered was synced */
    positions_init(p);
}

static int find(const struct positions *p, const char *sink) {
    for (unsigned i = 0; i < p->n; i++)
        if (strcmp(p->items[i].sink, sink) == 0)
            return (int)i;
    return -ENOENT;
}

static int add(struct positions *p, const char *sink) {
    char *name;

    if (p->n == LIMIT_SPOOL_POSITIONS)
        return -ENOBUFS;
    name = mem_strdup(sink);
    if (name == NULL)
        return -ENOMEM;
    p->items[p->n] = (struct position){.sink = name};
    return (int)p->n++;
}

int positions_claim(struct positions *p, const char *sink) {
    int i = find(p, sink);

    if (i < 0)
        i = add(p, sink);
    if (i >= 0)
        p->items[i].active = true;
    return i;
}

/* --- lines --- */

static void put_line(struct buf *out, const struct position *item) {
    static const char hex[] = "0123456789abcdef";
    char crc[10];
    size_t start = out->len;

    buf_puts(out, "xxxxxxxx ");
    buf_u64(out, item->next);
    buf_putc(out, ' ');
    for (const unsigned char *s = (const unsigned char *)item->sink; *s != '\0'; s++) {
        if (*s > ' ' && *s != '%' && *s != 0x7f) {
            buf_putc(out, (char)*s);
            continue;
        }
        buf_putc(out, '%');
        buf_putc(out, hex[*s >> 4]);
        buf_putc(out, hex[*s & 15]);
    }
    if (out->err != 0)
        return;
    (void)snprintf(crc, sizeof(crc), "%08" PRIx32,
                   crc32c(0, out->data + start + 9, out->len - start - 9));
    memcpy(out->data + start, crc, 8);
    buf_putc(out, '\n');
}

static int nibble(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int unescape(char *s) {
    char *to = s;

    for (; *s != '\0'; s++) {
        int high, low;

        if (*s != '%') {
            *to++ = *s;
            continue;
        }
        high = nibble(s[1]);
        low = high >= 0 ? nibble(s[2]) : -1;
        if (low < 0)
            return -EBADMSG;
        *to++ = (char)(high << 4 | low);
        s += 2;
    }
    *to = '\0';
    return 0;
}

/* Those that are named first were used the longest ago; those of now stand before all others. */
static void forget_oldest(struct positions *p) {
    for (unsigned i = 0; i < p->n; i++) {
        if (p->items[i].active)
            continue;
        mem_free(p->items[i].sink);
        p->n--;
        memmove(&p->items[i], &p->items[i + 1], (p->n - i) * sizeof(p->items[0]));
        return;
    }
}

static void take(struct positions *p, const char *sink, uint64_t next) {
    int i = find(p, sink);

    if (i < 0 && p->n == LIMIT_SPOOL_POSITIONS)
        forget_oldest(p);
    if (i < 0)
        i = add(p, sink);
    if (i >= 0)
        p->items[i].next = next;
}

static int take_line(struct positions *p, char *line) {
    char crc[9], *number = line + 9, *name;
    uint64_t next;

    if (strlen(line) < 12 || line[8] != ' ')
        return -EBADMSG;
    (void)snprintf(crc, sizeof(crc), "%08" PRIx32, crc32c(0, number, strlen(number)));
    if (memcmp(crc, line, 8) != 0)
        return -EBADMSG;
    name = strchr(number, ' ');
    if (name == NULL)
        return -EBADMSG;
    *name++ = '\0';
    if (text_u64(number, &next) != 0 || unescape(name) != 0)
        return -EBADMSG;
    take(p, name, next);
    return 0;
}

/* --- the file --- */

/* A last line without its end is what a kill leaves; it is no damage. */
static bool take_text(struct positions *p, char *text) {
    bool damaged = false, first = true;
    char *end;

    for (; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        *end = '\0';
        if (first)
            damaged |= strcmp(text, FIRST_LINE) != 0;
        else
            damaged |= take_line(p, text) != 0;
        first = false;
    }
    return damaged;
}

static int read_file(int dirfd, char **ret, size_t *ret_len) {
    int fd = openat(dirfd, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc = 0;
    size_t have = 0;
    struct stat st;
    char *text = NULL;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_)
        rc = -EBADMSG;
    if (rc == 0 && (text = mem_alloc((size_t)st.st_size + 1)) == NULL)
        rc = -ENOMEM;
    while (rc == 0 && have < (size_t)st.st_size) {
        ssize_t n = pread(fd, text + have, (size_t)st.st_size - have, (off_t)have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = -errno;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    close(fd);
    if (rc != 0) {
        mem_free(text);
        return rc;
    }
    text[have] = '\0';
    *ret = text;
    *ret_len = have;
    return 0;
}

int positions_load(struct positions *p, int dirfd, bool *ret_damaged) {
    char *text = NULL;
    size_t len = 0;
    int rc = read_file(dirfd, &text, &len);

    *ret_damaged = false;
    p->rewrite = true; /* so that it is ours, whole and short, before the first line is added */
    if (rc == -ENOENT)
        return 0;
    if (rc == -ENOMEM)
        return rc;
    *ret_damaged = rc != 0 || strlen(text) != len || take_text(p, text);
    mem_free(text);
    return 0;
}

static int write_anew(struct positions *p, int dirfd) {
    struct buf b;
    int fd, rc;

    buf_init(&b, FILE_MAX_);
    buf_puts(&b, FIRST_LINE "\n");
    for (unsigned turn = 0; turn < 2; turn++) /* those of now last */
        for (unsigned i = 0; i < p->n; i++)
            if (p->items[i].active == (turn == 1) && p->items[i].next > 0)
                put_line(&b, &p->items[i]);
    rc = b.err;
    fd = rc == 0
             ? openat(dirfd, TEMP_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)
             : -1;
    if (rc == 0 && fd < 0)
        rc = -errno;
    if (rc == 0)
        rc = fs_write_all(fd, b.data, b.len);
    if (rc == 0 && fsync(fd) != 0)
        rc = -errno;
    FAULT("positions-written-anew");
    if (rc == 0 && renameat(dirfd, TEMP_NAME, dirfd, FILE_NAME) != 0)
        rc = -errno;
    FAULT("positions-renamed");
    if (rc == 0 && fsync(dirfd) != 0)
        rc = -errno;
    if (rc == 0) {
        if (p->fd >= 0)
            (void)close(p->fd); /* the old file */
        p->fd = fd;
        p->bytes = b.len;
        p->rewrite = false;
        p->synced = true;
    } else if (fd >= 0) {
        (void)close(fd);
        (void)unlinkat(dirfd, TEMP_NAME, 0); /* may not be there */
    }
    buf_clear(&b);
    return rc;
}

static int append(struct positions *p, const struct position *item) {
    struct buf b;
    ssize_t n = -1;
    int rc;

    buf_init(&b, LINE_MAX_);
    put_line(&b, item);
    rc = b.err;
#ifdef PILLION_FAULTS
    if (rc == 0 && pwrite(p->fd, b.data, b.len / 2, (off_t)p->bytes) > 0)
        FAULT("position-half");
#endif
    if (rc == 0) {
        n = pwrite(p->fd, b.data, b.len, (off_t)p->bytes);
        rc = n < 0 ? -errno : (size_t)n < b.len ? -ENOSPC : 0;
    }
    if (rc == 0)
        p->bytes += b.len;
    buf_clear(&b);
    FAULT("position-written");
    return rc;
}

int positions_step(struct positions *p, int dirfd, int place, uint64_t next) {
    struct position *item = &p->items[place];
    int rc;

    item->next = next;
    p->synced = false;
    p->steps++;
    if (p->rewrite || p->fd < 0 || p->bytes > LIMIT_SPOOL_POSITIONS_BYTES)
        return write_anew(p, dirfd);
    rc = append(p, item);
    if (rc != 0)
        p->rewrite = true;
    return rc;
}

int positions_sync(struct positions *p, int dirfd) {
    if (p->rewrite)
        return write_anew(p, dirfd);
    if (p->synced || p->fd < 0)
        return 0;
    if (fdatasync(p->fd) != 0) {
        p->rewrite = true; /* what the kernel has of it is not to be trusted any more */
        return -errno;
    }
    p->synced = true;
    return 0;
}

uint64_t positions_greatest(const struct positions *p) {
    uint64_t most = 0;

    for (unsigned i = 0; i < p->n; i++)
        if (p->items[i].next > most)
            most = p->items[i].next;
    return most;
}

uint64_t positions_least(const struct positions *p) {
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < p->n; i++)
        if (p->items[i].active && p->items[i].next < least)
            least = p->items[i].next;
    return least;
}
