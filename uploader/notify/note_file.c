#include "uploader/notify/note_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define TIME_DIGITS 13
#define NEED_DIGITS 2
#define ID_AT       (TIME_DIGITS + 1 + NEED_DIGITS + 1)
#define SUFFIX      ".note"
#define MAGIC       "pillion-notification 1"
#define BYTES       "bytes "
#define TARGET      "target "

static bool id_letter(char c) {
    return isalnum((unsigned char)c) || (c != '\0' && strchr("._-", c) != NULL);
}

bool note_id_good(const char *id) {
    size_t len = 0;

    while (id_letter(id[len]))
        len++;
    return id[len] == '\0' && len > 0 && len < NOTE_ID_BYTES && id[0] != '.';
}

void note_file_name(char out[NOTE_FILE_BYTES], int64_t time_ms, unsigned needed, const char *id) {
    (void)snprintf(out, NOTE_FILE_BYTES, "%013lld-%02x-%s" SUFFIX, (long long)time_ms,
                   needed & 0xff, id);
}

static bool digits(const char *p, size_t n, int base, int64_t *ret) {
    int64_t v = 0;

    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)p[i];

        if (!isdigit(c) && !(base == 16 && c >= 'a' && c <= 'f'))
            return false;
        v = v * base + (isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return true;
}

bool note_file_parse_name(const char *name, int64_t *ret_time_ms, unsigned *ret_needed,
                          char ret_id[NOTE_ID_BYTES]) {
    size_t len = strlen(name), n = strlen(SUFFIX);
    int64_t needed;

    if (len <= ID_AT + n || len - ID_AT - n >= NOTE_ID_BYTES || name[TIME_DIGITS] != '-' ||
        name[ID_AT - 1] != '-' || strcmp(name + len - n, SUFFIX) != 0 ||
        !digits(name, TIME_DIGITS, 10, ret_time_ms) ||
        !digits(name + TIME_DIGITS + 1, NEED_DIGITS, 16, &needed))
        return false;
    memcpy(ret_id, name + ID_AT, len - ID_AT - n);
    ret_id[len - ID_AT - n] = '\0';
    *ret_needed = (unsigned)needed;
    return note_id_good(ret_id);
}

void note_file_head(struct buf *out, size_t bytes, const char *const *targets, unsigned n) {
    buf_puts(out, MAGIC "\n" BYTES);
    buf_u64(out, bytes);
    for (unsigned i = 0; i < n; i++) {
        buf_puts(out, "\n" TARGET);
        buf_puts(out, targets[i]); /* has no control characters */
    }
    buf_puts(out, "\n\n");
}

/* The next line begins with `word`: what follows in it, and *p moves behind it. */
static bool take_line(const char **p, const char *word, const char **ret, size_t *ret_len) {
    const char *end = strchr(*p, '\n');

    if (end == NULL || !text_starts(*p, word))
        return false;
    *ret = *p + strlen(word);
    *ret_len = (size_t)(end - *ret);
    *p = end + 1;
    return true;
}

static int take_targets(const char **p, char *ret_targets[LIMIT_NOTIFY_TARGETS], unsigned *ret_n) {
    const char *value;
    size_t n;

    while (take_line(p, TARGET, &value, &n)) {
        if (*ret_n == LIMIT_NOTIFY_TARGETS)
            return -EBADMSG;
        ret_targets[*ret_n] = mem_strndup(value, n);
        if (ret_targets[*ret_n] == NULL)
            return -ENOMEM;
        ++*ret_n;
    }
    return *ret_n > 0 && take_line(p, "", &value, &n) && n == 0 ? 0 : -EBADMSG;
}

int note_file_parse_head(const char *text, size_t len, char *ret_targets[LIMIT_NOTIFY_TARGETS],
                         unsigned *ret_n, size_t *ret_body) {
    const char *p = text, *value;
    int64_t bytes;
    size_t n;
    int rc;

    *ret_n = 0;
    if (!take_line(&p, MAGIC, &value, &n) || n != 0 || !take_line(&p, BYTES, &value, &n) ||
        n == 0 || n > 8 || !digits(value, n, 10, &bytes))
        return -EBADMSG;
    rc = take_targets(&p, ret_targets, ret_n);
    if (rc == 0 && bytes != text + len - p)
        rc = -EBADMSG;
    while (rc != 0 && *ret_n > 0)
        mem_free(ret_targets[--*ret_n]);
    *ret_body = (size_t)(p - text);
    return rc;
}

int note_file_write(int dirfd, const char *name, const char *text, size_t len) {
    char tmp[NOTE_FILE_BYTES + 8];
    int fd, rc;

    (void)snprintf(tmp, sizeof(tmp), ".new-%s", name);
    fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    rc = fs_write_all(fd, text, len);
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && renameat(dirfd, tmp, dirfd, name) != 0)
        rc = -errno;
    if (rc != 0)
        (void)unlinkat(dirfd, tmp, 0);
    return rc;
}

int note_file_sync(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return -errno;
    if (fsync(fd) != 0 || (fsync(dirfd) != 0 && errno != EINVAL)) /* file systems that cannot */
        rc = -errno;
    close(fd);
    return rc;
}

int note_file_read(int dirfd, const char *name, char **ret, size_t *ret_len) {
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc = 0;
    struct stat st;
    char *text = NULL;
    size_t len = 0;
    ssize_t n = 1;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size > NOTE_HEAD_BYTES + LIMIT_NOTIFY_BYTES)
        rc = -EBADMSG;
    if (rc == 0) {
        text = mem_alloc((size_t)st.st_size + 1);
        rc = text != NULL ? 0 : -ENOMEM;
    }
    while (rc == 0 && n > 0 && len < (size_t)st.st_size) {
        n = read(fd, text + len, (size_t)st.st_size - len);
        if (n < 0)
            rc = -errno;
        else
            len += (size_t)n;
    }
    close(fd);
    if (rc != 0) {
        mem_free(text);
        return rc;
    }
    text[len] = '\0';
    *ret = text;
    *ret_len = len;
    return 0;
}
