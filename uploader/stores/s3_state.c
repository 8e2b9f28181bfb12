/* Lines of text: "pillion upload 1", where (host and object), bytes, SHA-256, identity of the upload. A forgotten one: the key alone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/stores/s3.h"

#define STATE_BYTES 8192
#define STATE_NAME  48
#define FIRST_LINE  "pillion upload 1\n"

static int open_dir(const struct s3 *s) {
    static uint64_t said;
    char why[256] = "";
    int fd = fs_private_dir(s->state_dir, 0700, why, sizeof(why));

    if (fd < 0 && log_due(&said, 3600000))
        log_warn("store: %s: an upload that is cut begins anew", why);
    return fd;
}

static bool state_name(const struct s3 *s, const char *suffix, char out[STATE_NAME]) {
    char hash[HASH_HEX_BYTES], where[S3_PATH_BYTES + 400];
    int n = snprintf(where, sizeof(where), "%s%s", s->host, s->object);

    if (hash_hex(where, (size_t)n, hash) != 0)
        return false;
    (void)snprintf(out, STATE_NAME, "%.32s.%s", hash, suffix);
    return true;
}

static void write_head(const struct s3 *s, struct buf *out) {
    buf_printf(out, FIRST_LINE "%s%s\n%llu\n%s\n", s->host, s->object,
               (unsigned long long)s->web.base.bytes, s->web.base.sha256);
}

bool s3_state_load(struct s3 *s) {
    char name[STATE_NAME], text[STATE_BYTES];
    struct buf head;
    ssize_t n;
    size_t len = 0;
    int dirfd;

    if (!state_name(s, "upload", name) || (dirfd = open_dir(s)) < 0)
        return false;
    n = fs_read_at(dirfd, name, text, sizeof(text));
    close(dirfd);
    if (n <= 0)
        return false;
    buf_init(&head, STATE_BYTES);
    write_head(s, &head);
    /* Of another file, cut, or not ours: its uploads are found by the key. */
    if (head.err == 0 && (size_t)n > head.len && memcmp(text, head.data, head.len) == 0)
        len = strcspn(text + head.len, "\n");
    if (len > 0 && len < sizeof(s->up.id) && text[head.len + len] == '\n')
        (void)text_copy(s->up.id, len + 1, text + head.len);
    else
        len = 0;
    buf_clear(&head);
    return len > 0;
}

void s3_state_save(const struct s3 *s) {
    char name[STATE_NAME];
    struct buf text;
    int dirfd;

    if (!state_name(s, "upload", name) || (dirfd = open_dir(s)) < 0)
        return;
    buf_init(&text, STATE_BYTES);
    write_head(s, &text);
    buf_printf(&text, "%s\n", s->up.id);
    if (text.err == 0)
        (void)fs_write_at(dirfd, name, text.data, text.len, 0600); /* costs the going on alone */
    buf_clear(&text);
    close(dirfd);
}

void s3_state_drop(const struct s3 *s) {
    char name[STATE_NAME];
    int dirfd;

    if (!state_name(s, "upload", name) || (dirfd = open_dir(s)) < 0)
        return;
    (void)unlinkat(dirfd, name, 0); /* there is none for small files */
    close(dirfd);
}

void s3_state_forget(struct s3 *s, const char *key) {
    char name[STATE_NAME], object[S3_PATH_BYTES], old[sizeof(s->key)];
    int dirfd = open_dir(s);

    if (dirfd < 0)
        return;
    /* The names are made from the key: ours for a moment. */
    memcpy(object, s->object, sizeof(object));
    memcpy(old, s->key, sizeof(old));
    s3_set_key(s, key);
    if (state_name(s, "upload", name) && unlinkat(dirfd, name, 0) == 0 &&
        state_name(s, "forget", name))
        (void)fs_write_at(dirfd, name, key, strlen(key), 0600);
    memcpy(s->object, object, sizeof(object));
    memcpy(s->key, old, sizeof(old));
    close(dirfd);
}

static bool is_forgotten(const char *name) {
    return strlen(name) == 32 + strlen(".forget") && strspn(name, "0123456789abcdef") == 32 &&
           strcmp(name + 32, ".forget") == 0;
}

bool s3_state_forgotten(struct s3 *s) {
    int dirfd = open_dir(s), again = dirfd >= 0 ? dup(dirfd) : -1;
    DIR *d = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *e;

    s->forgotten[0] = '\0';
    while (d != NULL && s->forgotten[0] == '\0' && (e = readdir(d)) != NULL)
        if (is_forgotten(e->d_name) &&
            fs_read_at(dirfd, e->d_name, s->forgotten, sizeof(s->forgotten)) <= 0)
            (void)unlinkat(dirfd, e->d_name, 0); /* empty: cut by a full disk */
    if (d != NULL)
        (void)closedir(d); /* was only read */
    else if (again >= 0)
        close(again);
    if (dirfd >= 0)
        close(dirfd);
    return s->forgotten[0] != '\0';
}

void s3_state_forgotten_done(struct s3 *s) {
    char name[STATE_NAME];
    int dirfd = open_dir(s);

    s->forgotten[0] = '\0';
    if (dirfd < 0)
        return;
    if (state_name(s, "forget", name))
        (void)unlinkat(dirfd, name, 0); /* then it is tried once more, which does no harm */
    close(dirfd);
}
