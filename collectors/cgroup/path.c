#include "collectors/cgroup/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

/* A mount of the hierarchy that is looked for. */
struct mount {
    char root[PATH_MAX];  /* the folder of the hierarchy that is mounted */
    char point[PATH_MAX]; /* where */
};

/* How sure it is that a mount shows our group, best last. */
enum match {
    MATCH_NONE,
    MATCH_POINT, /* paths do not fit, but somebody mounted one single group: that is how runtimes show a container its own */
    MATCH_BELOW, /* paths do not fit, but our path exists below the mount */
    MATCH_ROOT   /* our path begins with the mounted folder */
};

struct candidate {
    enum match match;
    size_t root_len; /* of two that match, the narrower mount is the container's own */
    unsigned up;
    char dir[2 * PATH_MAX];
};

const char *path_controller_name(enum path_controller c) {
    static const char *const names[PATH_CONTROLLERS] = {"cpu",  "cpuacct", "cpuset", "memory",
                                                        "pids", "blkio",   ""};

    return names[c];
}

/* Is `word` one of the comma-separated words of [list, end)? */
static bool has_word(const char *list, const char *end, const char *word) {
    size_t len = strlen(word);

    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma != NULL ? comma : end;

        if ((size_t)(stop - list) == len && memcmp(list, word, len) == 0)
            return true;
        list = stop + 1;
    }
    return false;
}

/* "4:cpu,cpuacct:/path" and "0::/path": the path may have colons, too. Returns the path's begin and length, or NULL. */
static const char *find_line(const char *text, enum path_controller c, size_t *ret_len) {
    for (const char *p = text; *p != '\0';) {
        const char *end = p + strcspn(p, "\n");
        const char *list = memchr(p, ':', (size_t)(end - p));
        const char *path = list != NULL ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;

        if (path != NULL) {
            bool unified = end - p > 2 && strncmp(p, "0::", 3) == 0;

            if (c == PATH_UNIFIED ? unified
                                  : !unified && has_word(list + 1, path, path_controller_name(c))) {
                *ret_len = (size_t)(end - path - 1);
                return path + 1;
            }
        }
        p = *end == '\0' ? end : end + 1;
    }
    return NULL;
}

bool path_has(const char *cgroup_text, enum path_controller c) {
    size_t len;

    return find_line(cgroup_text, c, &len) != NULL;
}

/* A field of mountinfo: space, tab, newline and backslash are written as \ooo. */
static bool unescape(const char *p, size_t n, char *out, size_t size) {
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        char c = p[i];

        if (c == '\\' && i + 3 < n && strspn(p + i + 1, "01234567") >= 3) {
            c = (char)((p[i + 1] - '0') * 64 + (p[i + 2] - '0') * 8 + (p[i + 3] - '0'));
            i += 3;
        }
        if (c == '\0' || len + 1 >= size)
            return false;
        out[len++] = c;
    }
    out[len] = '\0';
    return true;
}

static size_t cut_fields(const char *p, const char *end, const char **fields, size_t *lengths,
                         size_t max) {
    size_t n = 0;

    while (p < end && n < max) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        const char *stop = space != NULL ? space : end;

        fields[n] = p;
        lengths[n++] = (size_t)(stop - p);
        p = stop + 1;
    }
    return n;
}

static bool climbs(const char *path) {
    for (const char *p = path; (p = strstr(p, "/..")) != NULL; p += 3)
        if (p[3] == '/' || p[3] == '\0')
            return true;
    return false;
}

/* "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate": is it a mount of c's hierarchy? */
static bool read_mount(const char *p, const char *end, enum path_controller c, struct mount *ret) {
    const char *f[24];
    size_t len[ARRAY_LEN(f)], n = cut_fields(p, end, f, len, ARRAY_LEN(f)), dash = 6;

    while (dash < n && !(len[dash] == 1 && f[dash][0] == '-'))
        dash++;
    if (dash + 3 >= n || len[3] == 0 || f[3][0] != '/' || len[4] == 0 || f[4][0] != '/')
        return false;
    if (c == PATH_UNIFIED) {
        if (len[dash + 1] != 7 || memcmp(f[dash + 1], "cgroup2", 7) != 0)
            return false;
    } else if (len[dash + 1] != 6 || memcmp(f[dash + 1], "cgroup", 6) != 0 ||
               !has_word(f[dash + 3], f[dash + 3] + len[dash + 3], path_controller_name(c))) {
        return false;
    }
    return unescape(f[3], len[3], ret->root, sizeof(ret->root)) &&
           unescape(f[4], len[4], ret->point, sizeof(ret->point)) && !climbs(ret->point);
}

/* What is left of `path` below `root`: "" or "/…"; NULL when it is not below it. */
static const char *rest_below(const char *path, const char *root) {
    size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

    if (strncmp(path, root, len) != 0 || (path[len] != '/' && path[len] != '\0'))
        return NULL;
    return strcmp(path + len, "/") == 0 ? "" : path + len;
}

static unsigned levels(const char *rest) {
    unsigned n = 0;

    for (const char *p = rest; *p != '\0'; p += strcspn(p, "/")) {
        p += strspn(p, "/");
        n += *p != '\0';
    }
    return n < PATH_LEVELS ? n : PATH_LEVELS;
}

static bool exists(int root_fd, const char *dir) {
    return faccessat(root_fd, dir[0] != '\0' ? dir : ".", F_OK, 0) == 0;
}

/* Without slashes in front, whichever part they come from: everything is opened below root_fd. */
static bool make_dir(struct candidate *c, const char *point, const char *rest) {
    const char *below = point + strspn(point, "/");
    int n;

    if (*below == '\0')
        rest += strspn(rest, "/");
    n = snprintf(c->dir, sizeof(c->dir), "%s%s", below, rest);
    c->up = levels(rest);
    return n >= 0 && (size_t)n < sizeof(c->dir);
}

static void try_mount(int root_fd, const char *path, const struct mount *m, struct candidate *best,
                      struct candidate *work) {
    const char *rest = rest_below(path, m->root);

    work->match = MATCH_NONE;
    work->root_len = strlen(m->root);
    if (rest != NULL) {
        if (!climbs(rest) && make_dir(work, m->point, rest) && exists(root_fd, work->dir))
            work->match = MATCH_ROOT;
    } else if (!climbs(path) && make_dir(work, m->point, strcmp(path, "/") == 0 ? "" : path) &&
               strcmp(path, "/") != 0 && exists(root_fd, work->dir)) {
        work->match = MATCH_BELOW;
    } else if (!climbs(m->root) && make_dir(work, m->point, "") && exists(root_fd, work->dir)) {
        work->match = MATCH_POINT;
    }
    /* not <: of two equal mounts the later one lies on top */
    if (work->match != MATCH_NONE &&
        (work->match > best->match ||
         (work->match == best->match && work->root_len >= best->root_len)))
        memcpy(best, work, sizeof(*best));
}

int path_open(int root_fd, const char *cgroup_text, const char *mountinfo_text,
              enum path_controller c, int *ret_fd, unsigned *ret_up) {
    struct place {
        char path[PATH_MAX];
        struct mount mount;
        struct candidate best, work;
    } * at;
    size_t len;
    const char *path = find_line(cgroup_text, c, &len);
    int rc = -ENOENT;

    if (path == NULL || len == 0 || len >= PATH_MAX || path[0] != '/')
        return -ENOENT;
    at = mem_calloc(1, sizeof(*at));
    if (at == NULL)
        return -ENOMEM;
    memcpy(at->path, path, len);
    for (const char *p = mountinfo_text; *p != '\0';) {
        const char *end = p + strcspn(p, "\n");

        if (read_mount(p, end, c, &at->mount))
            try_mount(root_fd, at->path, &at->mount, &at->best, &at->work);
        p = *end == '\0' ? end : end + 1;
    }
    if (at->best.match != MATCH_NONE) {
        const char *dir = at->best.dir[0] != '\0' ? at->best.dir : ".";
        int fd = openat(root_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        rc = fd < 0 ? -errno : 0;
        if (fd >= 0) {
            *ret_fd = fd;
            *ret_up = at->best.up;
        }
    }
    mem_free(at);
    return rc;
}
