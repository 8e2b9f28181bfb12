#include "agent/cli/client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define TIMEOUT_MS      5000
#define WHY_BYTES       256
#define LINE_BYTES      1024
#define SOCKET_NAME     "status.sock"
#define SOCKET_BY_FD    64
#define MOST_CANDIDATES 4
#define MESSAGE_BYTES   65536

int client_usage(const char *command, const char *wrong) {
    (void)fprintf(stderr, "pillion %s: %s; see pillion %s --help\n", command, wrong, command);
    return EX_USAGE;
}

int client_print(const struct buf *b) {
    if (b->err != 0)
        return EX_OSERR;
    if (b->len > 0 && fwrite(b->data, 1, b->len, stdout) != b->len)
        return EX_IOERR;
    return fflush(stdout) == 0 ? EX_OK : EX_IOERR;
}

int client_arguments(int argc, char **argv, const char *help, bool *ret_json) {
    for (int i = 1; i < argc; i++) {
        char wrong[WHY_BYTES];

        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return fputs(help, stdout) < 0 ? EX_IOERR : EX_OK;
        if (ret_json != NULL && strcmp(argv[i], "--json") == 0) {
            *ret_json = true;
            continue;
        }
        (void)snprintf(wrong, sizeof(wrong), "'%.100s' is not an argument of it", argv[i]);
        return client_usage(argv[0], wrong);
    }
    return -1;
}

/* --- what to say when there is no answer ------------------------------------------------------ */

/* The line that a helper left behind which did not start. */
static bool say_helper_error(const struct client *c) {
    char line[LINE_BYTES];

    if (c->dirfd < 0 || fs_read_at(c->dirfd, "helper.error", line, sizeof(line)) <= 0)
        return false;
    line[strcspn(line, "\n")] = '\0';
    (void)fprintf(stderr, "pillion %s: the helper did not start: %s\n", c->command, line);
    return true;
}

static void say_candidate(const struct client *c, const char *dir) {
    struct stat st;

    if (strcmp(dir, c->config.runtime_dir) == 0 || lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return;
    (void)fprintf(stderr,
                  "There is a runtime directory of uid %lu: PILLION_RUNTIME_DIR=%s pillion %s, as "
                  "that user (docker exec -u %lu …) or as root\n",
                  (unsigned long)st.st_uid, dir, c->command, (unsigned long)st.st_uid);
}

/* Where a helper of another user would be, which has other defaults. Only said, never used:
 * anyone can make these. */
static void say_candidates(const struct client *c) {
    DIR *d = opendir("/tmp");
    struct dirent *e;
    int n = 0;

    say_candidate(c, "/run/pillion");
    while (d != NULL && n < MOST_CANDIDATES && (e = readdir(d)) != NULL) {
        char path[32];
        uint64_t uid;

        if (!text_starts(e->d_name, "pillion-") ||
            text_u64(e->d_name + strlen("pillion-"), &uid) != 0)
            continue;
        (void)snprintf(path, sizeof(path), "/tmp/pillion-%.10s", e->d_name + strlen("pillion-"));
        say_candidate(c, path);
        n++;
    }
    if (d != NULL)
        (void)closedir(d);
}

static int say_not_running(const struct client *c, int rc) {
    (void)fprintf(stderr, "pillion %s: no helper answers at %s/" SOCKET_NAME " (%s)\n", c->command,
                  c->config.runtime_dir, strerror(-rc));
    if (!say_helper_error(c) && c->config_error.len > 0)
        (void)fprintf(stderr, "pillion %s: %s\n", c->command, c->config_error.data);
    (void)fprintf(stderr, "Start it with the application: pillion run -- node server.js (or alone: "
                          "pillion agent). A helper that uses another directory is found with "
                          "PILLION_RUNTIME_DIR.\n");
    say_candidates(c);
    return EX_UNAVAILABLE;
}

static int say_no_permission(const struct client *c, int rc) {
    (void)fprintf(stderr,
                  "pillion %s: no permission for %s/" SOCKET_NAME " (%s). It answers only the user "
                  "that the helper runs as, and root; we are uid %lu. Under docker: docker exec -u "
                  "USER …\n",
                  c->command, c->config.runtime_dir, strerror(-rc), (unsigned long)geteuid());
    return EX_NOPERM;
}

static int say(const struct client *c, int rc) {
    switch (-rc) {
    case EACCES:
    case EPERM:
    case ECONNRESET: /* closed without an answer: that is how a foreign user is refused */
        return say_no_permission(c, rc);
    case ETIMEDOUT:
        (void)fprintf(stderr,
                      "pillion %s: the helper at %s does not answer within %d s; it is stopped or "
                      "stuck\n",
                      c->command, c->config.runtime_dir, TIMEOUT_MS / 1000);
        return EX_TEMPFAIL;
    case ENOMEM:
    case ENOBUFS:
        (void)fprintf(stderr, "pillion %s: %s\n", c->command, strerror(-rc));
        return EX_OSERR;
    case EPROTO:
        (void)fprintf(stderr, "pillion %s: what answers at %s/" SOCKET_NAME " is not our helper\n",
                      c->command, c->config.runtime_dir);
        return EX_PROTOCOL;
    default:
        return say_not_running(c, rc);
    }
}

/* --- requests --------------------------------------------------------------------------------- */

static int connect_to(struct client *c) {
    char path[SOCKET_BY_FD];

    c->dirfd = open(c->config.runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->dirfd < 0)
        return -errno;
    /* Any length of path will do in this way: an address of a Unix socket has 107 bytes. */
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/" SOCKET_NAME, c->dirfd);
    return http_client_new_unix(&c->http, path);
}

int client_open(struct client *c, const char *command, char *const *env) {
    int rc;

    *c = (struct client){.command = command, .dirfd = -1};
    json_set_alloc_funcs(mem_alloc, mem_free);
    buf_init(&c->config_error, MESSAGE_BYTES);
    rc = config_load(&c->config, env, &c->config_error);
    if (rc == 0 || rc == -EINVAL)
        rc = connect_to(c);
    return rc == 0 ? EX_OK : say(c, rc);
}

void client_close(struct client *c) {
    http_client_free(c->http);
    if (c->dirfd >= 0)
        close(c->dirfd);
    buf_clear(&c->config_error);
    config_clear(&c->config);
}

static int get(struct client *c, const char *path, struct buf *ret_body, long *ret_status) {
    buf_reset(ret_body);
    return http_client_get(c->http, path, TIMEOUT_MS, ret_body, ret_status);
}

int client_get(struct client *c, const char *path, struct buf *ret_body) {
    long status = 0;
    int rc = get(c, path, ret_body, &status);

    if (rc != 0)
        return say(c, rc);
    if (status == 200)
        return EX_OK;
    (void)fprintf(stderr, "pillion %s: %s was answered with %ld\n", c->command, path, status);
    return status == 503 ? EX_TEMPFAIL : EX_PROTOCOL;
}

int client_get_quiet(struct client *c, const char *path, struct buf *ret_body, char *why) {
    long status = 0;
    int rc = get(c, path, ret_body, &status);

    if (rc == 0 && status == 200)
        return EX_OK;
    if (rc == 0)
        (void)snprintf(why, WHY_BYTES, "%s was answered with %ld", path, status);
    else
        (void)snprintf(why, WHY_BYTES, "%s", strerror(-rc));
    return EX_UNAVAILABLE;
}

int client_get_json(struct client *c, const char *path, json_t **ret) {
    struct buf body;
    json_error_t error;
    int rc;

    buf_init(&body, LIMIT_HTTP_PAGE_BYTES);
    rc = client_get(c, path, &body);
    if (rc == EX_OK) {
        *ret = json_loadb(body.data != NULL ? body.data : "", body.len, JSON_REJECT_DUPLICATES,
                          &error);
        if (*ret == NULL) {
            (void)fprintf(stderr, "pillion %s: %s is not JSON: %s\n", c->command, path, error.text);
            rc = EX_PROTOCOL;
        }
    }
    buf_clear(&body);
    return rc;
}

static int code_of(long status) {
    if (status / 100 == 2)
        return EX_OK;
    if (status == 404)
        return EX_UNAVAILABLE;
    return status == 429 || status == 503 ? EX_TEMPFAIL
           : status / 100 == 4            ? EX_DATAERR
                                          : EX_PROTOCOL;
}

int client_ask(struct client *c, const char *method, const char *path, const char *json,
               json_t **ret) {
    struct buf body;
    json_t *page = NULL;
    long status = 0;
    int rc, code;

    buf_init(&body, LIMIT_HTTP_PAGE_BYTES);
    rc = http_client_ask(c->http, method, path, json, TIMEOUT_MS, &body, &status);
    if (rc == 0)
        page =
            json_loadb(body.data != NULL ? body.data : "", body.len, JSON_REJECT_DUPLICATES, NULL);
    buf_clear(&body);
    if (rc != 0)
        return say(c, rc);
    code = page != NULL ? code_of(status) : EX_PROTOCOL;
    if (code != EX_OK) {
        (void)fprintf(stderr, "pillion %s: %s\n", c->command,
                      page != NULL ? client_string(page, "error") : "the answer is not JSON");
        json_decref(page);
        return code;
    }
    *ret = page;
    return EX_OK;
}

double client_number(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);

    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *client_string(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));

    return s != NULL ? s : "";
}
