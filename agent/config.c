/* config.c - the configuration table and its reader. See config.h for who owns what.
 *
 * One pass over the environment: each PILLION_* name is looked up in the table and its value parsed by the row's kind
 * (config_values.c). The first mistake becomes the line for people, further ones are counted. Nothing here touches the file system but for access(2) and the files
 * that hold a value (NAME_FILE). */
#include "agent/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/un.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/config_table.h"
#include "collectors/capture.h"

#define PREFIX     "PILLION_"
#define SHOW_BYTES 100 /* of a value in an error line */
/* The longest name that is put behind the runtime directory is "/workers.sock". */
#define RUNTIME_DIR_BYTES (sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("/workers.sock"))
#define VALUE_FILE_BYTES  16384 /* of a file that holds a value */
#define NEAR              3     /* edit distance up to which a name is taken for a misspelt one */

#define KIB          1024u
#define MIB          (1024u * 1024u)
#define SECOND       1000u
#define MINUTE       60000u
#define AT(member)   offsetof(struct config, member)
#define ACTION(name) (1u << CAPTURE_##name)

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

/* clang-format off */
const struct option config_options[] = {
    {"PILLION_APP", "`OTEL_SERVICE_NAME`, else the name in package.json, else `app`",
     "1 to 255 bytes of UTF-8 without control characters", "Name of the application",
     AT(app), 0, 0, NULL, OPTION_NAME, true, false},
    {"PILLION_INSTANCE", "the host name",
     "1 to 255 bytes of UTF-8 without control characters", "Name of this container",
     AT(instance), 0, 0, NULL, OPTION_NAME, true, false},
    {"PILLION_RUNTIME_DIR", "`/run/pillion`, else `$XDG_RUNTIME_DIR/pillion`, else `/tmp/pillion-$UID`",
     "an absolute path of at most 94 bytes that is not /", "Sockets and the file that Node.js preloads",
     AT(runtime_dir), 0, RUNTIME_DIR_BYTES, NULL, OPTION_PATH, true, false},
    {"PILLION_DATA_DIR", "`/var/lib/pillion`, else `data` in the runtime directory",
     "an absolute path that is not /", "Batches and whatever else is kept",
     AT(data_dir), 0, 0, NULL, OPTION_PATH, true, false},
    {"PILLION_SAMPLE_INTERVAL", "1s", "100ms to 60s", "Time between two samples of a worker",
     AT(sample_interval_ms), 100, 60 * SECOND, NULL, OPTION_DURATION, false, false},
    {"PILLION_FLUSH_INTERVAL", "10s", "1s to 5m, not less than PILLION_SAMPLE_INTERVAL", "Age at which a batch is closed",
     AT(flush_interval_ms), SECOND, 5 * MINUTE, NULL, OPTION_DURATION, false, false},
    {"PILLION_BATCH_MAX", "1MiB", "16KiB to 16MiB", "Size of its records, before compression, at which a batch is closed",
     AT(batch_max_bytes), 16 * KIB, 16 * MIB, NULL, OPTION_SIZE, false, false},
    {"PILLION_SPOOL_MAX", "64MiB", "1MiB to 64GiB",
     "Cap of the disk queue that all batches pass through, under the data directory; when it is full the oldest go, counted",
     AT(spool_max_bytes), 1 * MIB, 65536ull * MIB, NULL, OPTION_SIZE, false, false},
    {"PILLION_SPOOL_SYNC", "1s", "100ms to 60s", "Time after which what is in it also survives a crash of the host",
     AT(spool_sync_ms), 100, 60 * SECOND, NULL, OPTION_DURATION, false, false},
    {"PILLION_SINK", "file:",
     "none, or a list with commas of hub:, hub+URL, es+URL, otlp+URL, file:, file:/DIR and stdout:, where URL is "
     "http(s)://[USER:PASSWORD@]HOST[:PORT][/PATH]",
     "Where batches go: a hub (hub: asks the registry), Elasticsearch or OpenSearch, an OpenTelemetry collector, files (file: is "
     "below the data directory), standard output; as PILLION_SINK_FILE the file that holds the list",
     AT(sink), 0, 0, NULL, OPTION_SINK, false, false, true},
    {"PILLION_SINK_TOKEN", "none", "one line of printable ASCII without blanks",
     "Bearer token for remote sinks whose address has no user; as PILLION_SINK_TOKEN_FILE the file that holds it",
     AT(sink_token), 0, 0, NULL, OPTION_SECRET, true, true, true},
    {"PILLION_CA_FILE", "the system's", "an absolute path of a PEM file, or of a directory with hashed links",
     "Authorities whose certificates are accepted", AT(ca_file), 0, 0, NULL, OPTION_FILE, true, false},
    {"PILLION_CERT_FILE", "none", "an absolute path of a PEM file", "Our own certificate, where an end asks for one",
     AT(cert_file), 0, 0, NULL, OPTION_FILE, true, false},
    {"PILLION_KEY_FILE", "in the file of the certificate", "an absolute path of a PEM file", "Its key",
     AT(key_file), 0, 0, NULL, OPTION_FILE, true, false},
    {"PILLION_REGISTRY", "none",
     "none, consul+http(s)://HOST:8500, consul+unix:///SOCKET, consul: (at CONSUL_HTTP_ADDR, else 127.0.0.1:8500), or "
     "eureka+http(s)://HOST:8761/eureka, several of these with commas",
     "Where this container is registered, once, as service `pillion`; `CONSUL_HTTP_TOKEN`, `CONSUL_CACERT` and Consul's other "
     "variables hold as well",
     AT(registry), 0, 0, NULL, OPTION_REGISTRY, false, false},
    {"PILLION_ADVERTISE", "found", "found, HOST, HOST:PORT, :PORT or [IPV6]:PORT",
     "Address given to the registry; found: `POD_IP`, else this container's own on the way to the registry, with the port of "
     "PILLION_LISTEN where that can be reached from elsewhere; without a port that is registered the meta `commands` is `none`",
     AT(advertise), 0, 0, NULL, OPTION_ADVERTISE, false, false},
    {"PILLION_BLOCKED_AFTER", "2s", "500ms to 10m", "An event loop that has not turned for so long is called blocked",
     AT(blocked_after_ms), 500, 10 * MINUTE, NULL, OPTION_DURATION, false, false},
    {"PILLION_MEMORY_ALARM", "90%", "1% to 100%",
     "Share of the container's or of the heap's limit, whichever is nearer, that raises an event",
     AT(memory_alarm), 1, 100, NULL, OPTION_PERCENT, false, false},
    {"PILLION_STOP_TIMEOUT", "10s", "1s to 1h", "Time from SIGTERM to SIGKILL for the application",
     AT(stop_timeout_ms), SECOND, 60 * MINUTE, NULL, OPTION_DURATION, false, false},
    {"PILLION_LOG", "info", "error, warn, info or debug", "What is written to standard error",
     AT(log_level), 0, 0, log_levels, OPTION_CHOICE, false, false},
    {"PILLION_LOG_FORMAT", "text", "text or json", "Form of these lines",
     AT(log_format), 0, 0, log_formats, OPTION_CHOICE, false, false},

    {"PILLION_LISTEN", "127.0.0.1:7468", "none, IP:PORT, [IPV6]:PORT or localhost:PORT; any other address than loopback needs PILLION_TOKEN",
     "Command port; loopback takes PILLION_TOKEN as a bearer token, any other address takes signed requests; when the port is taken "
     "the helper goes on without it",
     AT(listen), 0, 0, NULL, OPTION_LISTEN, false, false},
    {"PILLION_TOKEN", "none", "16 to 255 printable characters of ASCII without blanks",
     "Secret of the command port and of signed webhooks; without it nobody may command over the port; as PILLION_TOKEN_FILE the file "
     "that holds it",
     AT(token), 16, 255, NULL, OPTION_SECRET, true, true, true},
    {"PILLION_STORE", "file:",
     "file:, file:/DIR, http(s)://[USER:PASSWORD@]HOST[:PORT]/[PATH/], webdav+http(s)://… or s3://BUCKET[/PREFIX]",
     "Where heap snapshots, profiles and reports go (file: is artifacts below the data directory); S3 takes the `AWS_…` variables; as "
     "PILLION_STORE_FILE the file that holds it",
     AT(store), 0, 0, NULL, OPTION_STORE, false, false, true},
    {"PILLION_NOTIFY", "none",
     "none, or a list with commas of amqp(s)://[USER:PASSWORD@]HOST/[VHOST] with ?exchange=…&routing_key=…, and http(s)://…",
     "Who is told when a file is in the store: a message queue, a webhook; as PILLION_NOTIFY_FILE the file that holds the list",
     AT(notify), 0, 0, NULL, OPTION_NOTIFY, false, false, true},
    {"PILLION_ON_BLOCKED", "stack", "none, or a list with commas of stack, cpu_profile, report and heap_profile",
     "What is captured by itself when an event loop is blocked",
     AT(on_blocked), 0, ACTION(STACK) | ACTION(CPU_PROFILE) | ACTION(REPORT) | ACTION(HEAP_PROFILE), NULL, OPTION_ACTIONS, false, false},
    {"PILLION_ON_MEMORY", "heap_profile", "none, or a list with commas of heap_profile, heap_histogram, heap_snapshot, gc_trace, report and stack",
     "What is captured by itself when memory is near its limit (PILLION_MEMORY_ALARM)",
     AT(on_memory), 0, ACTION(HEAP_PROFILE) | ACTION(HEAP_HISTOGRAM) | ACTION(HEAP_SNAPSHOT) | ACTION(GC_TRACE) | ACTION(REPORT) | ACTION(STACK),
     NULL, OPTION_ACTIONS, false, false},
    {"PILLION_ON_CRASH", "report", "none or report",
     "What is kept of a worker that crashed: the diagnostic report that Node.js wrote, without the environment variables",
     AT(on_crash), 0, ACTION(REPORT), NULL, OPTION_ACTIONS, false, false},
    {"PILLION_CAPTURE_LIMIT", "6/h", "1/h to 60/h", "Captures by rule; there are 5 minutes between two of one worker and rule in any case",
     AT(captures_per_hour), 1, 60, NULL, OPTION_RATE, false, false},
    {"PILLION_KEEP", "1GiB,7d", "SIZE,DURATION: 1MiB to 1TiB, 1m to 365d", "Local artifacts that are kept, by size and age; beyond, the oldest go",
     AT(keep), 0, 0, NULL, OPTION_KEEP, false, false},
};
/* clang-format on */

const size_t config_options_count = ARRAY_LEN(config_options);

/* The init process tells the helper its end of their pipe with it; no business of people. */
static const char *const internal_names[] = {"PILLION_INIT_FD"};

struct reader {
    struct config *config;
    struct buf *why;
    size_t mistakes;
    bool given[ARRAY_LEN(config_options)];
    bool no_memory;
};

__attribute__((format(printf, 2, 3))) static void mistake(struct reader *r, const char *fmt, ...) {
    char line[1024];
    va_list ap;

    if (r->mistakes++ > 0)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    buf_puts(r->why, line);
}

static void show_value(const struct option *o, const char *value, char *out, size_t size) {
    if (o != NULL && o->secret)
        (void)text_copy(out, size, "(hidden)");
    else
        text_show(out, size, value);
}

static void take(struct reader *r, size_t row, const char *value) {
    const struct option *o = &config_options[row];
    const char *accepted = o->accepted;
    char shown[SHOW_BYTES];
    int rc;

    if (r->given[row]) {
        mistake(r, "%s is given more than once; accepted: once", o->name);
        return;
    }
    r->given[row] = true;
    if (*value == '\0') {
        mistake(r, "%s=\"\" is empty; accepted: %s (or leave it out)", o->name, accepted);
        r->given[row] = false; /* its default is a default */
        return;
    }
    rc = config_parse(r->config, o, value);
    if (rc == -ENOMEM)
        r->no_memory = true;
    if (rc == 0 || rc == -ENOMEM)
        return;
    show_value(o, value, shown, sizeof(shown));
    mistake(r, "%s=\"%s\" %s; accepted: %s", o->name, shown,
            rc == -ERANGE ? "is out of range" : config_wrong(o->kind), accepted);
    r->given[row] = false;
}

/* Kubernetes (and Docker links) put such variables of every service beside us into our environment, also of one that is
 * called "pillion" or "pillion-hub": PILLION_HUB_SERVICE_HOST, PILLION_PORT=tcp://…, PILLION_PORT_80_TCP_ADDR. They are nobody's
 * mistake. https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables */
static bool service_link(const char *name, const char *value) {
    size_t len = strlen(name);
    const char *port = strstr(name, "_PORT");

    if (len > 13 && strcmp(name + len - 13, "_SERVICE_HOST") == 0)
        return true;
    if (strstr(name, "_SERVICE_PORT") != NULL)
        return true;
    if (port == NULL)
        return false;
    if (port[5] == '\0')
        return strstr(value, "://") != NULL;
    return port[5] == '_' && isdigit((unsigned char)port[6]) &&
           (strstr(port, "_TCP") != NULL || strstr(port, "_UDP") != NULL ||
            strstr(port, "_SCTP") != NULL);
}

static bool sounds_secret(const char *name) {
    static const char *const words[] = {"TOKEN", "SECRET", "PASS", "KEY", "CRED", "AUTH"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcasestr(name, words[i]) != NULL)
            return true;
    return false;
}

static void unknown(struct reader *r, const char *name, const char *value) {
    const struct option *nearest = NULL;
    size_t best = NEAR + 1;
    char shown[SHOW_BYTES], shown_name[SHOW_BYTES];

    for (size_t i = 0; i < config_options_count; i++) {
        size_t d = text_distance(name, config_options[i].name);

        if (d < best) {
            best = d;
            nearest = &config_options[i];
        }
    }
    text_show(shown_name, sizeof(shown_name), name);
    if (sounds_secret(name) || (nearest != NULL && nearest->secret))
        (void)text_copy(shown, sizeof(shown), "(hidden)");
    else
        text_show(shown, sizeof(shown), value);
    if (nearest != NULL)
        mistake(r, "%s=\"%s\" is not a variable of pillion; did you mean %s (accepted: %s)?",
                shown_name, shown, nearest->name, nearest->accepted);
    else
        mistake(r, "%s=\"%s\" is not a variable of pillion; accepted: those of `pillion --help`",
                shown_name, shown);
}

/* PILION_SINK: one letter off in our prefix, and the rest is one of our names. */
static bool misspelt_prefix(const char *name) {
    const char *rest = strchr(name, '_');
    char prefix[16];

    if (rest == NULL || toupper((unsigned char)name[0]) != 'P')
        return false;
    rest++;
    if ((size_t)(rest - name) >= sizeof(prefix))
        return false;
    (void)text_copy(prefix, (size_t)(rest - name) + 1, name);
    if (text_distance(prefix, PREFIX) > 1)
        return false;
    for (size_t i = 0; i < config_options_count; i++)
        if (strcasecmp(config_options[i].name + strlen(PREFIX), rest) == 0)
            return true;
    return false;
}

/* The value of row NAME out of the file that NAME_FILE names; a newline at its end does not count. */
static void take_file(struct reader *r, size_t row, const char *name, const char *path) {
    char value[VALUE_FILE_BYTES], shown[SHOW_BYTES];
    /* Not fs_read_at(): the secrets of Kubernetes are symbolic links. O_NONBLOCK: a FIFO must not hold us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n = fd >= 0 ? read(fd, value, sizeof(value)) : -1;
    int rc = n < 0 ? errno : n == (ssize_t)sizeof(value) ? EFBIG : 0;

    if (fd >= 0)
        (void)close(fd); /* was only read */
    if (rc != 0) {
        text_show(shown, sizeof(shown), path);
        mistake(r, "%s=\"%s\": %s; accepted: a file that we may read and that holds the value",
                name, shown, strerror(rc));
        return;
    }
    while (n > 0 && strchr(" \t\r\n", value[n - 1]) != NULL)
        n--;
    value[n] = '\0';
    if (strlen(value) == (size_t)n)
        take(r, row, value);
    else
        mistake(r, "%s: the file has a byte that is 0; accepted: text", name);
    explicit_bzero(value, sizeof(value));
}

static bool names_file_of(const char *name, const struct option *o) {
    size_t len = strlen(o->name);

    return o->in_file && strncmp(name, o->name, len) == 0 && strcmp(name + len, "_FILE") == 0;
}

static void read_variable(struct reader *r, const char *name, const char *value) {
    bool ours = strncasecmp(name, PREFIX, strlen(PREFIX)) == 0;

    if (!ours && !misspelt_prefix(name))
        return;
    for (size_t i = 0; i < config_options_count; i++) {
        if (strcmp(config_options[i].name, name) == 0) {
            take(r, i, value);
            return;
        }
        if (names_file_of(name, &config_options[i])) {
            take_file(r, i, name, value);
            return;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(internal_names); i++)
        if (strcmp(internal_names[i], name) == 0)
            return;
    if (!service_link(name, value))
        unknown(r, name, value);
}

static void read_environment(struct reader *r, char *const *env) {
    char name[CONFIG_NAME_BYTES + 1];

    for (; *env != NULL; env++) {
        const char *equals = strchr(*env, '=');
        size_t len = equals != NULL ? (size_t)(equals - *env) : 0;

        /* A longer name can only be a foreign one, or be cut and still be unknown. */
        if (len == 0)
            continue;
        (void)text_copy(name, len < CONFIG_NAME_BYTES ? len + 1 : sizeof(name), *env);
        read_variable(r, name, equals + 1);
    }
}

static const char *env_get(char *const *env, const char *name) {
    size_t len = strlen(name);

    for (; *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* There and ours to write to, or not there and ours to make. */
static bool usable_dir(const char *path) {
    char parent[PATH_MAX];
    char *slash;

    if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0)
        return faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0;
    if (!text_copy(parent, sizeof(parent), path) || (slash = strrchr(parent, '/')) == NULL)
        return false;
    slash[slash == parent] = '\0';
    return faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) == 0;
}

static char *find_runtime_dir(char *const *env) {
    const char *xdg = env_get(env, "XDG_RUNTIME_DIR");
    char path[PATH_MAX];

    if (usable_dir("/run/pillion"))
        return mem_strdup("/run/pillion");
    if (xdg != NULL && xdg[0] == '/' &&
        snprintf(path, sizeof(path), "%s/pillion", xdg) <= (int)RUNTIME_DIR_BYTES &&
        usable_dir(path))
        return mem_strdup(path);
    (void)snprintf(path, sizeof(path), "/tmp/pillion-%lu", (unsigned long)geteuid());
    return mem_strdup(path);
}

static char *find_data_dir(const char *runtime_dir) {
    char path[PATH_MAX];

    if (usable_dir("/var/lib/pillion"))
        return mem_strdup("/var/lib/pillion");
    (void)snprintf(path, sizeof(path), "%s/data", runtime_dir);
    return mem_strdup(path);
}

static char *find_instance(void) {
    char host[CONFIG_NAME_BYTES + 1];

    if (gethostname(host, sizeof(host)) != 0)
        host[0] = '\0';
    host[sizeof(host) - 1] = '\0'; /* POSIX: a name that was cut need not be terminated */
    return mem_strdup(config_printable(host) ? host : "unknown");
}

static int find_defaults(struct config *c, char *const *env) {
    const char *otel = env_get(env, "OTEL_SERVICE_NAME");

    if (c->app == NULL && otel != NULL && config_printable(otel)) {
        c->app = mem_strdup(otel);
        if (c->app == NULL)
            return -ENOMEM;
    }
    if (c->instance == NULL)
        c->instance = find_instance();
    if (c->runtime_dir == NULL)
        c->runtime_dir = find_runtime_dir(env);
    if (c->data_dir == NULL && c->runtime_dir != NULL)
        c->data_dir = find_data_dir(c->runtime_dir);
    return c->instance != NULL && c->runtime_dir != NULL && c->data_dir != NULL ? 0 : -ENOMEM;
}

static int set_defaults(struct config *c) {
    for (size_t i = 0; i < config_options_count; i++) {
        const struct option *o = &config_options[i];
        int rc = 0;

        if (!o->found)
            rc = config_parse(c, o, o->fallback);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static bool given(const struct reader *r, size_t where) {
    for (size_t i = 0; i < config_options_count; i++)
        if (config_options[i].where == where)
            return r->given[i];
    return false;
}

/* A batch that closes before the next sample is due holds less than one of each worker. */
static void check_flush(struct reader *r) {
    struct config *c = r->config;
    char flush[32], sample[32];

    if (c->flush_interval_ms >= c->sample_interval_ms)
        return;
    if (given(r, AT(flush_interval_ms))) {
        text_format_duration(c->flush_interval_ms, flush, sizeof(flush));
        text_format_duration(c->sample_interval_ms, sample, sizeof(sample));
        mistake(r,
                "PILLION_FLUSH_INTERVAL=\"%s\" is shorter than PILLION_SAMPLE_INTERVAL=\"%s\"; "
                "accepted: %s to 5m",
                flush, sample, sample);
    }
    c->flush_interval_ms = c->sample_interval_ms;
}

/* Whoever can reach the port from elsewhere could command us without it. */
static void check_port(struct reader *r) {
    struct config *c = r->config;
    char ip[CONFIG_IP_BYTES];
    uint16_t port;

    if (c->token != NULL || config_listen(c->listen, ip, &port) != 0 || config_listen_is_local(ip))
        return;
    mistake(r,
            "PILLION_LISTEN=\"%s\" can be reached from elsewhere, and PILLION_TOKEN is not set; "
            "accepted: a loopback address, none, or both variables",
            c->listen);
    mem_free(c->listen);
    c->listen = mem_strdup("none");
    r->no_memory |= c->listen == NULL;
}

static void check_combinations(struct reader *r) {
    check_flush(r);
    check_port(r);
}

int config_load(struct config *ret, char *const *env, struct buf *why) {
    struct reader r = {.config = ret, .why = why};
    int rc;

    *ret = (struct config){0};
    rc = set_defaults(ret);
    if (rc != 0)
        goto out;
    read_environment(&r, env);
    check_combinations(&r);
    rc = r.no_memory ? -ENOMEM : find_defaults(ret, env);
    if (rc != 0)
        goto out;
    if (r.mistakes > 1)
        buf_printf(why, " (and %zu more)", r.mistakes - 1);
    if (r.mistakes > 0)
        rc = why->err == -ENOMEM ? -ENOMEM : -EINVAL;
out:
    if (rc == -ENOMEM)
        config_clear(ret);
    return rc;
}

void config_clear(struct config *c) {
    mem_free(c->app);
    mem_free(c->instance);
    mem_free(c->runtime_dir);
    mem_free(c->data_dir);
    mem_free(c->sink);
    mem_free(c->registry);
    mem_free(c->advertise);
    mem_free(c->listen);
    mem_free(c->store);
    mem_free(c->notify);
    if (c->token != NULL)
        explicit_bzero(c->token, strlen(c->token));
    mem_free(c->token);
    if (c->sink_token != NULL) /* it need not stay in memory */
        explicit_bzero(c->sink_token, strlen(c->sink_token));
    mem_free(c->sink_token);
    mem_free(c->ca_file);
    mem_free(c->cert_file);
    mem_free(c->key_file);
    *c = (struct config){0};
}
