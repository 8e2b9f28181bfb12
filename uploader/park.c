#include "uploader/park.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define NAME_BYTES 160
#define SUFFIX     ".ndjson.gz"

struct inventory {
    size_t files, bytes;
    char oldest[NAME_BYTES];
};

static bool is_ours(const char *name) {
    size_t len = strlen(name);

    return len < NAME_BYTES && len > strlen(SUFFIX) &&
           strcmp(name + len - strlen(SUFFIX), SUFFIX) == 0;
}

/* Names begin with the time, all of the same length for the next 250 years. */
static int look(int dirfd, struct inventory *ret) {
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *e;
    struct stat st;
    DIR *d;

    *ret = (struct inventory){0};
    if (fd < 0)
        return -errno;
    d = fdopendir(fd);
    if (d == NULL) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    while ((e = readdir(d)) != NULL) {
        if (!is_ours(e->d_name) || fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        ret->files++;
        ret->bytes += (size_t)st.st_size;
        if (ret->oldest[0] == '\0' || strcmp(e->d_name, ret->oldest) < 0)
            (void)text_copy(ret->oldest, sizeof(ret->oldest), e->d_name);
    }
    (void)closedir(d); /* was only read */
    return 0;
}

static int make_room(int dirfd, size_t len) {
    struct inventory now;
    int rc;

    for (;;) {
        rc = look(dirfd, &now);
        if (rc != 0 || now.files == 0 ||
            (now.files < LIMIT_PARKED_FILES && now.bytes + len <= LIMIT_PARKED_BYTES))
            return rc;
        if (unlinkat(dirfd, now.oldest, 0) != 0)
            return -errno;
        counter_add(COUNTER_PARKED_FILES_REMOVED, 1);
    }
}

int park_put(const char *data_dir, const char *name, const void *data, size_t len, char *why,
             size_t why_size) {
    char path[PATH_MAX];
    int dirfd, rc;

    (void)snprintf(path, sizeof(path), "%s/parked", data_dir);
    dirfd = fs_private_dir(path, 0700, why, why_size);
    if (dirfd < 0)
        return dirfd;
    rc = make_room(dirfd, len);
    if (rc == 0)
        rc = fs_write_at(dirfd, name, data, len, 0600);
    if (rc != 0)
        (void)snprintf(why, why_size, "cannot write to %s: %s", path, strerror(-rc));
    close(dirfd);
    return rc;
}
