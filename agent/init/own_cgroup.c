#include "agent/init/own_cgroup.h"

#include <errno.h>
#include <fcntl.h>

#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"

/* Is `controller` one of the names in "cpu,cpuacct"? */
static bool in_list(const char *list, size_t len, const char *controller) {
    size_t want = strlen(controller);

    while (len >= want) {
        const char *comma = memchr(list, ',', len);
        size_t n = comma != NULL ? (size_t)(comma - list) : len;

        if (n == want && memcmp(list, controller, n) == 0)
            return true;
        if (comma == NULL)
            return false;
        len -= n + 1;
        list = comma + 1;
    }
    return false;
}

/* mount + path, or the mount alone: in a container the path may be one of the host's. */
static int try_mount(struct own_cgroup *c, const char *root, const char *mount, size_t mount_len,
                     const char *path, const char *file) {
    char probe[256];

    for (int whole = 1; whole >= 0; whole--) {
        int n = snprintf(c->dir, sizeof(c->dir), "%s/sys/fs/cgroup%s%.*s%s", root,
                         mount_len > 0 ? "/" : "", (int)mount_len, mount,
                         whole == 1 && strcmp(path, "/") != 0 ? path : "");

        if (n < 0 || (size_t)n >= sizeof(c->dir))
            continue;
        c->root_len = strlen(root) + strlen("/sys/fs/cgroup") + (mount_len > 0 ? 1 : 0) + mount_len;
        if (own_cgroup_read(c, file, probe, sizeof(probe)) == 0)
            return 0;
    }
    return -ENOENT;
}

/* A line of /proc/self/cgroup: "4:cpu,cpuacct:/a/b", and "0::/a/b" for v2. */
static int try_line(struct own_cgroup *c, const char *root, const char *line,
                    const char *controller, const char *file_v1, const char *file_v2) {
    const char *list = strchr(line, ':'), *path;
    size_t len;
    int rc;

    if (list == NULL || (path = strchr(++list, ':')) == NULL)
        return -ENOENT;
    len = (size_t)(path++ - list);
    if (strstr(path, "..") != NULL) /* outside of our namespace */
        path = "/";
    c->v2 = len == 0;
    if (c->v2) {
        rc = try_mount(c, root, "", 0, path, file_v2);
        return rc == 0 ? rc : try_mount(c, root, "unified", strlen("unified"), path, file_v2);
    }
    if (!in_list(list, len, controller))
        return -ENOENT;
    rc = try_mount(c, root, list, len, path, file_v1);
    return rc == 0 ? rc : try_mount(c, root, controller, strlen(controller), path, file_v1);
}

int own_cgroup_find(struct own_cgroup *ret, const char *root, const char *controller,
                    const char *file_v1, const char *file_v2) {
    char path[OWN_CGROUP_PATH], text[4096], *line, *end;
    struct own_cgroup c;
    ssize_t n;

    if (snprintf(path, sizeof(path), "%s/proc/self/cgroup", root) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    n = fs_read_at(AT_FDCWD, path, text, sizeof(text));
    if (n < 0)
        return (int)n;
    for (line = text; line != NULL && *line != '\0'; line = end) {
        end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        if (try_line(&c, root, line, controller, file_v1, file_v2) == 0) {
            *ret = c;
            return 0;
        }
    }
    return -ENOENT;
}

bool own_cgroup_up(struct own_cgroup *c) {
    char *slash = strrchr(c->dir, '/');

    if (slash == NULL || (size_t)(slash - c->dir) < c->root_len)
        return false;
    *slash = '\0';
    return true;
}

int own_cgroup_read(const struct own_cgroup *c, const char *file, char *out, size_t size) {
    char path[OWN_CGROUP_PATH + 64];
    ssize_t n;

    if (snprintf(path, sizeof(path), "%s/%s", c->dir, file) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    n = fs_read_at(AT_FDCWD, path, out, size);
    return n < 0 ? (int)n : 0;
}
