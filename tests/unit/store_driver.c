/* Delivers files to a store as the helper does, for tests against real servers (tests/services/stores.test.js): no test itself.
 *
 *     store_driver SPEC DATA_DIR SECONDS [FILE KIND JOB]...     exit 0: nothing waits any more; 1: something still does
 *     store_driver SPEC DATA_DIR probe                          exit 0: the store takes files
 *
 * Lines: "sent BYTES" while it goes, "stored JOB URL", "refused JOB REASON", "ready ID MESSAGE", at its end "status JSON". AWS_… as
 * always; RETRY=0 ends at the first failure with "failed REASON". */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/artifacts.h"
#include "uploader/stores/hash.h"

static struct {
    uv_loop_t loop;
    struct http *http;
    struct store *store;
    struct artifacts *artifacts;
    uv_timer_t look;
    const char *dir;
    uint64_t end_ms;
    bool no_retry;
    int workfd, rc;
} d;

static int announce(void *arg, const char *id, const char *json, size_t len) {
    (void)arg;
    printf("ready %s %.*s\n", id, (int)len, json);
    (void)fflush(stdout);
    return 0;
}

static void stored(void *arg, const char *id, const char *job, const char *kind, const char *url,
                   const char *error) {
    (void)arg, (void)id, (void)kind;
    printf("%s %s %s\n", error == NULL ? "stored" : "refused", job, error == NULL ? url : error);
    (void)fflush(stdout);
}

static void on_http_closed(void *arg) {
    (void)arg;
}

static void on_store_closed(void *arg) {
    (void)arg;
    http_close(d.http, on_http_closed, NULL);
}

static void on_artifacts_closed(void *arg) {
    (void)arg;
    store_close(d.store, on_store_closed, NULL);
}

static void on_look(uv_timer_t *timer) {
    static char last[64];
    struct buf status;
    const char *sent;
    bool idle, failing;

    buf_init(&status, 65536);
    (void)artifacts_write_status(d.artifacts, &status);
    idle = strstr(status.data, "\"backlog\":0,") != NULL;
    failing = d.no_retry && strstr(status.data, "\"state\":\"failing\"") != NULL;
    sent = strstr(status.data, "\"sent\":");
    if (sent != NULL && strncmp(last, sent, strcspn(sent, "}")) != 0) {
        (void)text_copy(last, sizeof(last), sent);
        printf("sent %" PRIu64 "\n", (uint64_t)strtoull(sent + 7, NULL, 10));
        (void)fflush(stdout);
    }
    if (idle || failing || clock_mono_ms() > d.end_ms) {
        printf("status %s\n", status.data);
        d.rc = idle ? 0 : 1;
        uv_close((uv_handle_t *)timer, NULL);
        artifacts_close(d.artifacts, on_artifacts_closed, NULL);
    }
    buf_clear(&status);
}

/* A copy in our own directory, as a capture leaves it. */
static int add(const char *file, const char *kind, const char *job) {
    struct artifact a = {.app = "shop",
                         .instance = "host/1",
                         .worker = "42:4711",
                         .job = job,
                         .kind = kind,
                         .extension = "heapsnapshot.gz",
                         .pid = 42,
                         .time_ms = 1795458479000};
    char sha256[HASH_HEX_BYTES];
    struct stat st;
    int in = open(file, O_RDONLY), out = openat(d.workfd, job, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int rc = in >= 0 && out >= 0 && fstat(in, &st) == 0 ? 0 : -errno;

    if (rc == 0)
        rc = hash_file(in, 0, (uint64_t)st.st_size, out, sha256);
    close(in);
    close(out);
    a.bytes = (uint64_t)st.st_size;
    a.sha256 = sha256;
    return rc == 0 ? artifacts_add(d.artifacts, &a, d.workfd, job, NULL) : rc;
}

static void on_probed(void *arg, const struct store_result *result) {
    (void)arg;
    printf("%s %s\n", result->rc == 0 ? "works" : "failed",
           result->rc == 0 ? result->url : result->error);
    d.rc = result->rc == 0 ? 0 : 1;
    store_close(d.store, on_store_closed, NULL);
}

static int deliver(char **args) {
    const struct artifacts_env env = {.loop = &d.loop,
                                      .data_dir = d.dir,
                                      .store = d.store,
                                      .keep_bytes = (uint64_t)8 << 30,
                                      .announce = announce,
                                      .stored = stored};
    struct buf why;
    int rc;

    buf_init(&why, 1000);
    rc = artifacts_new(&d.artifacts, &env, &why);
    if (rc == 0)
        rc = artifacts_start(d.artifacts);
    for (; rc == 0 && args[0] != NULL && args[1] != NULL && args[2] != NULL; args += 3)
        rc = add(args[0], args[1], args[2]);
    if (rc != 0) {
        fprintf(stderr, "%s %s\n", why.data != NULL ? why.data : "", strerror(-rc));
        return 1;
    }
    (void)uv_timer_init(&d.loop, &d.look);
    (void)uv_timer_start(&d.look, on_look, 20, 20);
    (void)uv_run(&d.loop, UV_RUN_DEFAULT);
    return d.rc;
}

int main(int argc, char **argv) {
    struct store_env env = {.loop = &d.loop};
    char work[PATH_MAX];
    struct buf why;
    int rc;

    if (argc < 4)
        return 64;
    buf_init(&why, 1000);
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "store_driver");
    d.dir = env.data_dir = argv[2];
    d.no_retry = getenv("RETRY") != NULL;
    (void)snprintf(work, sizeof(work), "%s/work", d.dir);
    (void)mkdir(work, 0700);
    d.workfd = open(work, O_RDONLY | O_DIRECTORY);
    rc = uv_loop_init(&d.loop);
    if (rc == 0)
        rc = http_new(&d.http, &d.loop, NULL, &why);
    env.http = d.http;
    if (rc == 0)
        rc = store_new(&d.store, argv[1], &env, &why);
    if (rc != 0) {
        fprintf(stderr, "%s (%s)\n", why.data != NULL ? why.data : "", strerror(-rc));
        return 78;
    }
    if (strcmp(argv[3], "probe") == 0) {
        rc = store_probe(d.store, on_probed, NULL);
        (void)uv_run(&d.loop, UV_RUN_DEFAULT);
        return rc == 0 ? d.rc : 1;
    }
    d.end_ms = clock_mono_ms() + 1000 * strtoull(argv[3], NULL, 10);
    return deliver(argv + 4);
}
