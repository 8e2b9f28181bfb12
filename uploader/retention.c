#include "uploader/retention.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define DEPTH      3 /* directories above a file */
#define PATH_BYTES 800

struct item {
    int64_t time_ms; /* of the last write */
    uint64_t bytes;
    char *path; /* below the directory */
};

struct items {
    struct item *list;
    size_t n, cap;
    bool no_memory;
};

/* d: a digit; else itself. Returns what is behind it, or NULL. */
static const char *match(const char *s, const char *pattern) {
    for (; *pattern != '\0'; s++, pattern++)
        if (*pattern == 'd' ? !isdigit((unsigned char)*s) : *s != *pattern)
            return NULL;
    return s;
}

static bool is_day(const char *name) {
    const char *rest = match(name, "dddd-dd-dd");

    return rest != NULL && *rest == '\0';
}

static bool is_artifact(const char *name) {
    size_t kind = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"),
           pid;
    const char *rest;

    if (kind == 0 || name[kind] != '-')
        return false;
    name += kind + 1;
    pid = strspn(name, "0123456789");
    rest = pid > 0 ? match(name + pid, "-ddddddddTddddddZ-") : NULL;
    return rest != NULL && strchr(rest, '.') != NULL;
}

static void add(struct items *all, const char *path, const struct stat *st) {
    struct item *it;

    if (all->n == all->cap) {
        size_t cap = all->cap > 0 ? 2 * all->cap : 64;
        struct item *list = mem_realloc(all->list, cap * sizeof(*list));

        if (list == NULL) {
            all->no_memory = true;
            return;
        }
        all->list = list;
        all->cap = cap;
    }
    it = &all->list[all->n];
    it->path = mem_strdup(path);
    if (it->path == NULL) {
        all->no_memory = true;
        return;
    }
    it->bytes = (uint64_t)st->st_size;
    it->time_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
    all->n++;
}

/* Takes `fd`. */
static void walk(int fd, const char *above, unsigned depth, struct items *all) {
    DIR *d = fdopendir(fd);
    const struct dirent *e;
    struct stat st;

    if (d == NULL) {
        close(fd);
        return;
    }
    while (all->n < LIMIT_RETENTION_FILES && !all->no_memory && (e = readdir(d)) != NULL) {
        char path[PATH_BYTES];
        int below;

        if (e->d_name[0] == '.' || (depth == DEPTH - 1 && !is_day(e->d_name)) ||
            snprintf(path, sizeof(path), "%s%s%s", above, *above != '\0' ? "/" : "", e->d_name) >=
                (int)sizeof(path) ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (depth == DEPTH) {
            if (S_ISREG(st.st_mode) && is_artifact(e->d_name))
                add(all, path, &st);
            continue;
        }
        below = S_ISDIR(st.st_mode)
                    ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                    : -1;
        if (below >= 0)
            walk(below, path, depth + 1, all);
    }
    (void)closedir(d); /* was only read */
}

static int by_age(const void *a, const void *b) {
    const struct item *x = a, *y = b;

    return x->time_ms != y->time_ms ? (x->time_ms < y->time_ms ? -1 : 1) : strcmp(x->path, y->path);
}

/* The file, and the directories above it that are empty then. */
static bool remove_item(int root, struct item *it) {
    if (unlinkat(root, it->path, 0) != 0)
        return false;
    for (char *slash = strrchr(it->path, '/'); slash != NULL; slash = strrchr(it->path, '/')) {
        *slash = '\0';
        if (unlinkat(root, it->path, AT_REMOVEDIR) != 0)
            break;
    }
    return true;
}

int retention_apply(const char *dir, struct retention *r) {
    struct items all = {0};
    int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;

    r->files = r->bytes = r->removed = 0;
    if (root < 0)
        return -errno;
    fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0)
        walk(fd, "", 0, &all);
    for (size_t i = 0; i < all.n; i++)
        r->bytes += all.list[i].bytes;
    r->files = all.n;
    if (all.n > 0)
        qsort(all.list, all.n, sizeof(*all.list), by_age);
    for (size_t i = 0; i < all.n; i++) {
        struct item *it = &all.list[i];
        bool old = r->keep_ms > 0 && it->time_ms < r->now_ms &&
                   (uint64_t)(r->now_ms - it->time_ms) > r->keep_ms;
        bool much = r->keep_bytes > 0 && r->bytes > r->keep_bytes;

        if ((old || much) && i + 1 < all.n && remove_item(root, it)) {
            r->bytes -= it->bytes;
            r->files--;
            r->removed++;
        }
        mem_free(it->path);
    }
    mem_free(all.list);
    close(root);
    return all.no_memory ? -ENOMEM : 0;
}
