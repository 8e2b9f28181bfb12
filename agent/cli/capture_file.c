#include "agent/cli/capture_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sysexits.h>
#include <zlib.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/client.h"

#define CHUNK_BYTES 65536

static bool ends_in(const char *s, const char *end) {
    size_t len = strlen(s), n = strlen(end);

    return len > n && strcasecmp(s + len - n, end) == 0;
}

/* "x.cpuprofile.gz" of worker 17:4711 is "x.17.cpuprofile.gz", of its thread 2 "x.17-2.cpuprofile.gz". */
static int make_name(char out[PATH_MAX], const char *output, const char *worker, bool several) {
    const char *slash = strrchr(output, '/'), *base = slash != NULL ? slash + 1 : output;
    const char *dot = strchr(base + (base[0] == '.'), '.'), *thread = strchr(worker, '/');
    size_t stem = dot != NULL ? (size_t)(dot - output) : strlen(output);
    int n;

    if (!several)
        return text_copy(out, PATH_MAX, output) ? 0 : -ENAMETOOLONG;
    n = snprintf(out, PATH_MAX, "%.*s.%.*s%s%s%s", (int)stem, output, (int)strcspn(worker, ":"),
                 worker, thread != NULL ? "-" : "", thread != NULL ? thread + 1 : "",
                 dot != NULL ? dot : "");
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* --- which ------------------------------------------------------------------------------------------------------------------- */

static const json_t *find_kind(const json_t *job, const char *kind) {
    const json_t *list = json_object_get(job, "artifacts"), *one;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i,
                       one) if (strcmp(client_string(one, "kind"), kind) == 0) return one;
    return NULL;
}

static const json_t *choose(const json_t *job, const char *action, const char *output) {
    if (ends_in(output, ".html") || ends_in(output, ".html.gz"))
        return find_kind(job, "flamegraph");
    return find_kind(job, action);
}

/* --- the copy ---------------------------------------------------------------------------------------------------------------- */

/* gzip on either side, or not: gzread() also reads what is plain, mode "T" of gzdopen() also writes it. */
static int copy(int in, int out, bool compressed) {
    gzFile from = gzdopen(in, "rb"), to = gzdopen(out, compressed ? "wb6" : "wbT");
    char *chunk = mem_alloc(CHUNK_BYTES);
    int rc = from != NULL && to != NULL && chunk != NULL ? 0 : -ENOMEM, n = 1;

    while (rc == 0 && n > 0) {
        n = gzread(from, chunk, CHUNK_BYTES);
        if (n < 0)
            rc = -EBADMSG;
        else if (n > 0 && gzwrite(to, chunk, (unsigned)n) != n)
            rc = errno != 0 ? -errno : -EIO;
    }
    if (from == NULL)
        (void)close(in);
    else if (gzclose(from) != Z_OK && rc == 0) /* Z_BUF_ERROR: it ended in the middle */
        rc = -EBADMSG;
    errno = 0;
    if (to == NULL)
        (void)close(out);
    else if (gzclose(to) != Z_OK && rc == 0)
        rc = errno != 0 ? -errno : -EIO;
    mem_free(chunk);
    return rc;
}

static int copy_to(int in, const char *name) {
    char temporary[PATH_MAX + 16];
    int out, rc;

    if (strcmp(name, "-") == 0) {
        out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        return out >= 0 ? copy(in, out, false) : -errno;
    }
    (void)snprintf(temporary, sizeof(temporary), "%s.part-%d", name, (int)getpid());
    out = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (out < 0) {
        rc = -errno;
        (void)close(in);
        return rc;
    }
    rc = copy(in, out, ends_in(name, ".gz"));
    if (rc == 0 && rename(temporary, name) != 0)
        rc = -errno;
    if (rc != 0)
        (void)unlink(temporary);
    return rc;
}

static int write_result(const char *command, const json_t *job, const char *name) {
    const json_t *result = json_object_get(job, "result");
    char *text = result != NULL ? json_dumps(result, JSON_INDENT(2)) : NULL;
    int rc = 0;

    if (text == NULL) {
        (void)fprintf(stderr, "pillion %s: there is nothing that %s could hold\n", command, name);
        return EX_UNAVAILABLE;
    }
    if (strcmp(name, "-") == 0)
        rc = puts(text) >= 0 ? 0 : -EIO;
    else
        rc = fs_write_at(AT_FDCWD, name, text, strlen(text), 0600);
    mem_free(text);
    if (rc == 0)
        return EX_OK;
    (void)fprintf(stderr, "pillion %s: %s: %s\n", command, name, strerror(-rc));
    return EX_CANTCREAT;
}

static int say_not_held(const char *command, const json_t *artifact, const char *path) {
    const char *url = client_string(artifact, "url");

    (void)fprintf(stderr,
                  "pillion %s: the helper's copy %s cannot be read from here (%s); it is in the "
                  "store: %s\n",
                  command, *path != '\0' ? path : "is gone and", strerror(errno),
                  *url != '\0' ? url : "on its way");
    return EX_NOINPUT;
}

int capture_file_copy(const char *command, const json_t *job, const char *action,
                      const char *output, bool several) {
    const json_t *artifact = choose(job, action, output);
    const char *path = client_string(artifact, "path");
    char name[PATH_MAX];
    int in, rc = make_name(name, output, client_string(job, "worker"),
                           several && strcmp(output, "-") != 0);

    if (rc != 0) {
        (void)fprintf(stderr, "pillion %s: %s: %s\n", command, output, strerror(-rc));
        return EX_USAGE;
    }
    if (artifact == NULL && !ends_in(name, ".html"))
        return write_result(command, job, name);
    if (artifact == NULL) {
        (void)fprintf(stderr, "pillion %s: there is no flame graph of this\n", command);
        return EX_USAGE;
    }
    errno = ENOENT;
    in = *path != '\0' ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (in < 0)
        return say_not_held(command, artifact, path);
    rc = copy_to(in, name);
    if (rc == 0) {
        if (strcmp(name, "-") != 0)
            (void)fprintf(stderr, "%s\n", name);
        return EX_OK;
    }
    (void)fprintf(stderr, "pillion %s: %s: %s\n", command, name, strerror(-rc));
    return rc == -EBADMSG ? EX_DATAERR : EX_CANTCREAT;
}
