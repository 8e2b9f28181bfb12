/* The configuration table: every variable missing, empty, unknown, misspelt, out of range, of the wrong type (P54). */
#include "agent/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/config_table.h"
#include "collectors/capture.h"

static struct config config;
static struct buf why;

static int set_up(void **state) {
    (void)state;
    buf_init(&why, 4096);
    return 0;
}

static void clear(void) {
    config_clear(&config);
    buf_clear(&why);
}

static int tear_down(void **state) {
    (void)state;
    clear();
    assert_int_equal(mem_live(), 0);
    return 0;
}

/* Loads two variables at most; NULL ends. */
static int load(const char *a, const char *b) {
    char *env[3] = {(char *)(uintptr_t)a, (char *)(uintptr_t)b, NULL};

    clear();
    return config_load(&config, env, &why);
}

static void good(const char *a) {
    if (load(a, NULL) != 0)
        fail_msg("%s is refused: %s", a, why.data);
    assert_int_equal(why.len, 0);
}

static void bad(const char *a, const char *wanted) {
    assert_int_equal(load(a, NULL), -EINVAL);
    if (strcmp(why.data, wanted) != 0)
        fail_msg("%s\n  says   \"%s\"\n  wanted \"%s\"", a, why.data, wanted);
    assert_null(strchr(why.data, '\n'));
    /* the defaults hold, so that `run` can go on */
    assert_non_null(config.runtime_dir);
    assert_int_equal(config.sample_interval_ms, 1000);
    assert_string_equal(config.sink, "file:");
}

static void test_nothing_given(void **state) {
    char host[256] = "";

    (void)state;
    assert_int_equal(load(NULL, NULL), 0);
    assert_null(config.app);
    assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
    assert_string_equal(config.instance, host);
    assert_int_equal(config.runtime_dir[0], '/');
    assert_int_equal(config.data_dir[0], '/');
    assert_string_equal(config.sink, "file:");
    assert_string_equal(config.registry, "none");
    assert_string_equal(config.advertise, "found");
    assert_int_equal(config.sample_interval_ms, 1000);
    assert_int_equal(config.flush_interval_ms, 10000);
    assert_int_equal(config.batch_max_bytes, 1048576);
    assert_int_equal(config.blocked_after_ms, 2000);
    assert_true(config.memory_alarm == 0.9);
    assert_int_equal(config.stop_timeout_ms, 10000);
    assert_int_equal(config.log_level, LOG_LEVEL_INFO);
    assert_int_equal(config.log_format, LOG_FORMAT_TEXT);
}

static void test_each_is_read(void **state) {
    (void)state;
    good("PILLION_APP=shop");
    assert_string_equal(config.app, "shop");
    good("PILLION_APP=@scope/caf\xc3\xa9");
    good("PILLION_INSTANCE=i-1");
    assert_string_equal(config.instance, "i-1");
    good("PILLION_RUNTIME_DIR=/x/y///");
    assert_string_equal(config.runtime_dir, "/x/y");
    good("PILLION_DATA_DIR=/data");
    assert_string_equal(config.data_dir, "/data");
    good("PILLION_SAMPLE_INTERVAL=100ms");
    assert_int_equal(config.sample_interval_ms, 100);
    good("PILLION_FLUSH_INTERVAL=5m");
    assert_int_equal(config.flush_interval_ms, 300000);
    good("PILLION_BATCH_MAX=16KiB");
    assert_int_equal(config.batch_max_bytes, 16384);
    good("PILLION_BATCH_MAX=16MiB");
    good("PILLION_SINK=none");
    assert_string_equal(config.sink, "none");
    good("PILLION_SINK=file:,file:/a b,stdout:");
    assert_string_equal(config.sink, "file:,file:/a b,stdout:");
    good("PILLION_REGISTRY=consul+https://u:p@consul:8501");
    assert_string_equal(config.registry, "consul+https://u:p@consul:8501");
    good("PILLION_REGISTRY=consul:");
    good("PILLION_REGISTRY=eureka+http://a:1,http://b:2/eureka/v2");
    good("PILLION_ADVERTISE=[fd00::1]:7468");
    assert_string_equal(config.advertise, "[fd00::1]:7468");
    good("PILLION_BLOCKED_AFTER=500ms");
    assert_int_equal(config.blocked_after_ms, 500);
    good("PILLION_BLOCKED_AFTER=10m");
    good("PILLION_MEMORY_ALARM=1%");
    good("PILLION_MEMORY_ALARM=100%");
    assert_true(config.memory_alarm == 1);
    good("PILLION_STOP_TIMEOUT=1h");
    assert_int_equal(config.stop_timeout_ms, 3600000);
    good("PILLION_LOG=error");
    assert_int_equal(config.log_level, LOG_LEVEL_ERROR);
    good("PILLION_LOG=debug");
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
    good("PILLION_LOG_FORMAT=json");
    assert_int_equal(config.log_format, LOG_FORMAT_JSON);
}

/* P54 */
static void test_wrong_values(void **state) {
    (void)state;
    bad("PILLION_SAMPLE_INTERVAL=99ms",
        "PILLION_SAMPLE_INTERVAL=\"99ms\" is out of range; accepted: 100ms to 60s");
    bad("PILLION_SAMPLE_INTERVAL=61s",
        "PILLION_SAMPLE_INTERVAL=\"61s\" is out of range; accepted: 100ms to 60s");
    bad("PILLION_SAMPLE_INTERVAL=1", "PILLION_SAMPLE_INTERVAL=\"1\" is not a duration such as "
                                     "500ms, 10s or 5m; accepted: 100ms to 60s");
    bad("PILLION_BATCH_MAX=1TB",
        "PILLION_BATCH_MAX=\"1TB\" is not a size such as 512KiB or 1MiB; accepted: 16KiB to 16MiB");
    bad("PILLION_BATCH_MAX=99999999999999999999",
        "PILLION_BATCH_MAX=\"99999999999999999999\" is out of range; accepted: 16KiB to 16MiB");
    bad("PILLION_MEMORY_ALARM=0.9",
        "PILLION_MEMORY_ALARM=\"0.9\" is not a percentage such as 90%; accepted: 1% to 100%");
    bad("PILLION_MEMORY_ALARM=0%",
        "PILLION_MEMORY_ALARM=\"0%\" is out of range; accepted: 1% to 100%");
    bad("PILLION_ADVERTISE=0.0.0.0:0",
        "PILLION_ADVERTISE=\"0.0.0.0:0\" is not an address; accepted: "
        "found, HOST, HOST:PORT, :PORT or [IPV6]:PORT");
    bad("PILLION_REGISTRY=consul+http://user:hunter2@a b",
        "PILLION_REGISTRY=\"consul+http://***@a b\" is not the address of a registry; accepted: "
        "none, consul+http(s)://HOST:8500, consul+unix:///SOCKET, consul: (at CONSUL_HTTP_ADDR, "
        "else 127.0.0.1:8500), or eureka+http(s)://HOST:8761/eureka, several of these with commas");
    bad("PILLION_LOG=INFO",
        "PILLION_LOG=\"INFO\" is not known; accepted: error, warn, info or debug");
    bad("PILLION_LOG_FORMAT=xml",
        "PILLION_LOG_FORMAT=\"xml\" is not known; accepted: text or json");
    bad("PILLION_APP=a\nb", "PILLION_APP=\"a?b\" is not a name; accepted: 1 to 255 bytes of UTF-8 "
                            "without control characters");
    bad("PILLION_APP=\xff", "PILLION_APP=\"?\" is not a name; accepted: 1 to 255 bytes of UTF-8 "
                            "without control characters");
    bad("PILLION_RUNTIME_DIR=run", "PILLION_RUNTIME_DIR=\"run\" is not a usable directory name; "
                                   "accepted: an absolute path of at most 94 bytes that is not /");
    bad("PILLION_RUNTIME_DIR=//", "PILLION_RUNTIME_DIR=\"//\" is not a usable directory name; "
                                  "accepted: an absolute path of at most 94 bytes that is not /");
    bad("PILLION_DATA_DIR=/", "PILLION_DATA_DIR=\"/\" is not a usable directory name; accepted: an "
                              "absolute path that is not /");
}

static void test_sinks(void **state) {
    static const char *const wrong[] = {
        "file",           "file:rel",  "stdout",      "none,file:", "file:,",        ",file:",
        "file:,,stdout:", "hub",       "file: ",      "stdout:/x",  "es+http://h:x", "otlp+ftp://h",
        "hub:x",          "es+h:9200", "hub+http://", " file:",     "NONE",
    };
    char text[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        (void)snprintf(text, sizeof(text), "PILLION_SINK=%s", wrong[i]);
        assert_int_equal(load(text, NULL), -EINVAL);
        assert_non_null(strstr(why.data, "is not a list of sinks that this version has; accepted: "
                                         "none, or a list with commas of hub:"));
        assert_non_null(strstr(why.data, wrong[i]));
        assert_string_equal(config.sink, "file:");
    }
}

/* P54: empty is refused for each, with what is accepted. */
static void test_empty(void **state) {
    char text[64];

    (void)state;
    for (size_t i = 0; i < config_options_count; i++) {
        const struct option *o = &config_options[i];

        (void)snprintf(text, sizeof(text), "%s=", o->name);
        assert_int_equal(load(text, NULL), -EINVAL);
        assert_memory_equal(why.data, o->name, strlen(o->name));
        assert_non_null(strstr(why.data, "=\"\" is empty; accepted: "));
        if (o->accepted != NULL)
            assert_non_null(strstr(why.data, o->accepted));
    }
}

/* P54: any one letter left out, doubled or swapped is told apart from a name, and the name is told. */
static void test_misspelt(void **state) {
    (void)state;
    for (size_t i = 0; i < config_options_count; i++) {
        const char *name = config_options[i].name;
        size_t len = strlen(name);

        for (size_t at = strlen("PILLION_"); at < len; at++) {
            char text[80], wanted[80];

            (void)snprintf(text, sizeof(text), "%.*s%s=x", (int)at, name, name + at + 1);
            (void)snprintf(wanted, sizeof(wanted), "did you mean PILLION_");
            assert_int_equal(load(text, NULL), -EINVAL);
            if (strstr(why.data, wanted) == NULL)
                fail_msg("%s: %s", text, why.data);
        }
    }
    bad("PILLION_SNIK=none",
        "PILLION_SNIK=\"none\" is not a variable of pillion; did you mean "
        "PILLION_SINK (accepted: none, or a list with commas of hub:, hub+URL, es+URL, otlp+URL, "
        "file:, "
        "file:/DIR and stdout:, where URL is http(s)://[USER:PASSWORD@]HOST[:PORT][/PATH])?");
    bad("PILLION_FLUSH_INTERVALL=1s",
        "PILLION_FLUSH_INTERVALL=\"1s\" is not a variable of pillion; did you mean "
        "PILLION_FLUSH_INTERVAL (accepted: 1s to 5m, not less than PILLION_SAMPLE_INTERVAL)?");
    bad("pillion_log=info", "pillion_log=\"info\" is not a variable of pillion; did you mean "
                            "PILLION_LOG (accepted: error, warn, info or debug)?");
    bad("PILION_LOG=info", "PILION_LOG=\"info\" is not a variable of pillion; did you mean "
                           "PILLION_LOG (accepted: error, warn, info or debug)?");
    bad("PILLION_SOMETHING_ELSE=1", "PILLION_SOMETHING_ELSE=\"1\" is not a variable of pillion; "
                                    "accepted: those of `pillion --help`");
    bad("PILLION_=1", "PILLION_=\"1\" is not a variable of pillion; did you mean PILLION_APP "
                      "(accepted: 1 to 255 bytes of UTF-8 without control characters)?");
}

static void test_not_ours(void **state) {
    (void)state;
    good("MILLION_APP=1");
    good("PAVILION_LOG=1");
    good("PILION_OTHER=1");
    good("PILLIONX=1");
    good("PILLION=1");
    good("no equals sign");
    good("=x");
    good("PILLION_INIT_FD=7");
    /* Kubernetes tells of a service with our name in this way. */
    good("PILLION_SERVICE_HOST=10.0.0.1");
    good("PILLION_HUB_SERVICE_PORT=80");
    good("PILLION_HUB_SERVICE_PORT_HTTP=80");
    good("PILLION_HUB_PORT=tcp://10.0.0.1:80");
    good("PILLION_HUB_PORT_80_TCP=tcp://10.0.0.1:80");
    good("PILLION_HUB_PORT_80_TCP_ADDR=10.0.0.1");
    assert_int_equal(load("PILLION_PORT=80", NULL), -EINVAL);
    assert_int_equal(load("PILLION_PORTS_TCP=80", NULL), -EINVAL);
}

static void test_captures(void **state) {
    char ip[CONFIG_IP_BYTES];
    uint16_t port;

    (void)state;
    assert_int_equal(load(NULL, NULL), 0);
    assert_string_equal(config.listen, "127.0.0.1:7468");
    assert_string_equal(config.store, "file:");
    assert_int_equal(config.on_blocked, 1u << CAPTURE_STACK);
    assert_int_equal(config.on_memory, 1u << CAPTURE_HEAP_PROFILE);
    assert_int_equal(config.on_crash, 1u << CAPTURE_REPORT);
    assert_int_equal(config.captures_per_hour, 6);
    assert_true(config.keep.bytes == 1u << 30 && config.keep.ms == 7ull * 24 * 3600 * 1000);
    good("PILLION_ON_BLOCKED=none");
    assert_int_equal(config.on_blocked, 0);
    good("PILLION_ON_BLOCKED=stack,cpu_profile");
    assert_int_equal(config.on_blocked, (1u << CAPTURE_STACK) | (1u << CAPTURE_CPU_PROFILE));
    good("PILLION_CAPTURE_LIMIT=60/h");
    good("PILLION_STORE=webdav+https://u:p@h/x/");
    good("PILLION_NOTIFY=amqp://h/?exchange=a,https://h/hook");
    good("PILLION_LISTEN=none");
    good("PILLION_LISTEN=localhost:65535");
    assert_int_equal(config_listen(config.listen, ip, &port), 0);
    assert_string_equal(ip, "127.0.0.1");
    assert_int_equal(port, 65535);
    assert_int_equal(load("PILLION_LISTEN=0.0.0.0:7468", "PILLION_TOKEN=0123456789abcdef"), 0);
}

/* P54, P62 */
static void test_captures_wrong(void **state) {
    static const char *const given[] = {
        "PILLION_LISTEN=7468",
        "PILLION_LISTEN=host:1",
        "PILLION_LISTEN=127.0.0.1:0",
        "PILLION_LISTEN=127.0.0.1:65536",
        "PILLION_LISTEN=::1:7468",
        "PILLION_LISTEN=[::1]",
        "PILLION_LISTEN=[127.0.0.1]:1",

        "PILLION_TOKEN=fifteen-letters",
        "PILLION_STORE=/data",
        "PILLION_STORE=s3://",
        "PILLION_STORE=ftp://h/",

        "PILLION_NOTIFY=none,http://h/",

        "PILLION_NOTIFY=kafka://h/",
        "PILLION_ON_BLOCKED=heap_snapshot",
        "PILLION_ON_BLOCKED=stack,stack",

        "PILLION_ON_BLOCKED=stack,none",
        "PILLION_ON_CRASH=stack",

        "PILLION_CAPTURE_LIMIT=6",
        "PILLION_CAPTURE_LIMIT=0/h",
        "PILLION_CAPTURE_LIMIT=61/h",

        "PILLION_KEEP=1GiB",
        "PILLION_KEEP=1GiB,0",
        "PILLION_KEEP=1KiB,7d",

    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        if (load(given[i], NULL) != -EINVAL)
            fail_msg("%s is taken", given[i]);
        assert_non_null(strstr(why.data, "; accepted: "));
        assert_string_equal(config.store, "file:");
        assert_int_equal(config.captures_per_hour, 6);
    }
    bad("PILLION_LISTEN=0.0.0.0:7468",
        "PILLION_LISTEN=\"0.0.0.0:7468\" can be reached from elsewhere, and PILLION_TOKEN is not "
        "set; accepted: a loopback address, none, or both variables");
    assert_string_equal(config.listen, "none");
}

static void test_several(void **state) {
    char *three[] = {(char[]){"PILLION_LOG=x"}, (char[]){"PILLION_APP="}, (char[]){"PILLION_NO=1"},
                     NULL};

    (void)state;
    assert_int_equal(load("PILLION_LOG=warn", "PILLION_LOG=warn"), -EINVAL);
    assert_string_equal(why.data, "PILLION_LOG is given more than once; accepted: once");
    clear();
    assert_int_equal(config_load(&config, three, &why), -EINVAL);
    assert_string_equal(why.data, "PILLION_LOG=\"x\" is not known; accepted: error, warn, info or "
                                  "debug (and 2 more)");
    /* the good ones hold beside a bad one */
    assert_int_equal(load("PILLION_LOG=debug", "PILLION_APP="), -EINVAL);
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
}

static void test_combinations(void **state) {
    (void)state;
    assert_int_equal(load("PILLION_FLUSH_INTERVAL=10s", "PILLION_SAMPLE_INTERVAL=30s"), -EINVAL);
    assert_string_equal(why.data, "PILLION_FLUSH_INTERVAL=\"10s\" is shorter than "
                                  "PILLION_SAMPLE_INTERVAL=\"30s\"; accepted: 30s to 5m");
    assert_int_equal(config.flush_interval_ms, 30000);
    assert_int_equal(load("PILLION_FLUSH_INTERVAL=30s", "PILLION_SAMPLE_INTERVAL=30s"), 0);
    /* the default gives way */
    good("PILLION_SAMPLE_INTERVAL=60s");
    assert_int_equal(config.flush_interval_ms, 60000);
}

/* P64 */
static void test_secrets_are_not_shown(void **state) {
    static const char *const given[] = {
        "PILLION_TOKEN=hunter2",
        "PILLION_TOKN=hunter2",
        "PILLION_API_KEY=hunter2",
        "PILLION_SINK=es+https://u:hunter2@h:0/",
        "PILLION_SINK=es+https://u:hunter2@",
        "PILLION_SINK_TOKEN=hunter2 ",
        "PILLION_SINK_TOKN=hunter2",
        "PILLION_SNIK=https://u:hunter2@h/",
        "PILLION_NOTIFY=amqp://u:hunter2@h/?x=hunter2,x",
        "PILLION_SINK=file:,https://h/?token=hunter2",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        assert_int_equal(load(given[i], NULL), -EINVAL);
        if (strstr(why.data, "hunter2") != NULL)
            fail_msg("%s", why.data);
    }
}

/* P64: the value may stand in a file, which may be a link, as the secrets of Kubernetes are. */
static void test_values_in_files(void **state) {
    char dir[] = "/tmp/pillion-test-config-XXXXXX", file[64], link[64], text[128];
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof(file), "%s/data", dir);
    (void)snprintf(link, sizeof(link), "%s/token", dir);
    f = fopen(file, "w");
    assert_non_null(f);
    (void)fputs("hunter2\n", f);
    (void)fclose(f);
    assert_int_equal(symlink("data", link), 0);
    (void)snprintf(text, sizeof(text), "PILLION_SINK_TOKEN_FILE=%s", link);
    good(text);
    assert_string_equal(config.sink_token, "hunter2");
    assert_int_equal(load(text, "PILLION_SINK_TOKEN=other"), -EINVAL);
    assert_non_null(strstr(why.data, "is given more than once"));
    (void)snprintf(text, sizeof(text), "PILLION_SINK_FILE=%s", link);
    assert_int_equal(load(text, NULL), -EINVAL);
    assert_non_null(strstr(why.data, "is not a list of sinks"));
    (void)snprintf(text, sizeof(text), "PILLION_SINK_TOKEN_FILE=%s", dir);
    assert_int_equal(load(text, NULL), -EINVAL);
    assert_non_null(strstr(why.data, "Is a directory; accepted: a file"));
    assert_int_equal(unlink(link), 0);
    (void)snprintf(text, sizeof(text), "PILLION_SINK_TOKEN_FILE=%s", link);
    assert_int_equal(load(text, NULL), -EINVAL);
    assert_non_null(strstr(why.data, "No such file or directory; accepted: a file"));
    assert_int_equal(mkfifo(link, 0600), 0); /* does not hang */
    assert_int_equal(load(text, NULL), -EINVAL);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(load("PILLION_LOG_FILE=x", NULL), -EINVAL); /* not for all of them */
    good("PILLION_SINK=hub:,es+https://u:p@h:9200/x?kind=stream,otlp+http://[::1]:4318");
}

static void test_application_name(void **state) {
    (void)state;
    good("OTEL_SERVICE_NAME=shop");
    assert_string_equal(config.app, "shop");
    assert_int_equal(load("OTEL_SERVICE_NAME=shop", "PILLION_APP=mine"), 0);
    assert_string_equal(config.app, "mine");
    good("OTEL_SERVICE_NAME=");
    assert_null(config.app);
    good("OTEL_SERVICE_NAME=a\x01");
    assert_null(config.app);
}

static void test_directories(void **state) {
    char text[512], dir[] = "/tmp/pillion-test-config-XXXXXX", wanted[128];
    bool run_is_ours = access("/run/pillion", F_OK) == 0 ? access("/run/pillion", W_OK) == 0
                                                         : access("/run", W_OK) == 0;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(text, sizeof(text), "XDG_RUNTIME_DIR=%s", dir);
    good(text);
    (void)snprintf(wanted, sizeof(wanted), "%s/pillion", dir);
    assert_string_equal(config.runtime_dir, run_is_ours ? "/run/pillion" : wanted);
    assert_int_equal(access(wanted, F_OK), -1); /* nothing is made */
    good("XDG_RUNTIME_DIR=/nonexistent/xdg");
    (void)snprintf(wanted, sizeof(wanted), "/tmp/pillion-%lu", (unsigned long)geteuid());
    assert_string_equal(config.runtime_dir, run_is_ours ? "/run/pillion" : wanted);
    assert_int_equal(rmdir(dir), 0);

    memset(text, 'x', sizeof(text));
    memcpy(text, "PILLION_RUNTIME_DIR=/", 21);
    text[20 + 94] = '\0';
    good(text);
    text[20 + 94] = 'x';
    text[20 + 95] = '\0';
    assert_int_equal(load(text, NULL), -EINVAL);
    assert_non_null(
        strstr(why.data, "is out of range; accepted: an absolute path of at most 94 bytes"));
}

/* The bounds that the table tells people are the ones that hold. */
static void test_bounds_as_told(void **state) {
    static const struct {
        const char *name, *below, *least, *most, *above;
    } rows[] = {
        {"SAMPLE_INTERVAL", "99ms", "100ms", "60s", "60001ms"},
        {"FLUSH_INTERVAL", "999ms", "1s", "5m", "300001ms"},
        {"BATCH_MAX", "16383", "16KiB", "16MiB", "16777217"},
        {"BLOCKED_AFTER", "499ms", "500ms", "10m", "600001ms"},
        {"MEMORY_ALARM", "0%", "1%", "100%", "101%"},
        {"STOP_TIMEOUT", "999ms", "1s", "1h", "3600001ms"},
    };
    char text[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *values[] = {rows[i].below, rows[i].least, rows[i].most, rows[i].above};

        for (int j = 0; j < 4; j++) {
            (void)snprintf(text, sizeof(text), "PILLION_%s=%s", rows[i].name, values[j]);
            assert_int_equal(load(text, NULL), j == 0 || j == 3 ? -EINVAL : 0);
        }
    }
}

static void test_json(void **state) {
    char *env[] = {(char[]){"PILLION_SINK=file:/a \"b\""}, (char[]){"PILLION_MEMORY_ALARM=70%"},
                   (char[]){"OTEL_SERVICE_NAME=shop"}, NULL};
    struct buf out;
    json_t *all, *row;

    (void)state;
    buf_init(&out, 65536);
    assert_int_equal(config_load(&config, env, &why), 0);
    config_json(&config, env, &out);
    all = json_loads(out.data, JSON_REJECT_DUPLICATES, NULL);
    assert_int_equal(json_object_size(all), 30);
    row = json_object_get(all, "PILLION_SINK");
    assert_string_equal(json_string_value(json_object_get(row, "value")), "file:/a \"b\"");
    assert_string_equal(json_string_value(json_object_get(row, "source")), "environment");
    row = json_object_get(all, "PILLION_MEMORY_ALARM");
    assert_string_equal(json_string_value(json_object_get(row, "value")), "70%");
    row = json_object_get(all, "PILLION_APP");
    assert_string_equal(json_string_value(json_object_get(row, "value")), "shop");
    assert_string_equal(json_string_value(json_object_get(row, "source")), "environment");
    row = json_object_get(all, "PILLION_FLUSH_INTERVAL");
    assert_string_equal(json_string_value(json_object_get(row, "value")), "10s");
    assert_string_equal(json_string_value(json_object_get(row, "source")), "default");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(all, "PILLION_BATCH_MAX"), "value")),
        "1MiB");
    json_decref(all);
    buf_clear(&out);
}

/* Each variable stands in each of the texts; --help fits 80 columns. */
static void test_texts(void **state) {
    void (*const writers[])(struct buf *) = {config_help, config_man, config_markdown};
    struct buf out;

    (void)state;
    for (size_t w = 0; w < ARRAY_LEN(writers); w++) {
        buf_init(&out, 65536);
        writers[w](&out);
        assert_int_equal(out.err, 0);
        for (size_t i = 0; i < config_options_count; i++) {
            assert_non_null(strstr(out.data, config_options[i].name));
            if (w == 2)
                assert_non_null(strstr(out.data, config_options[i].accepted));
        }
        for (const char *line = out.data; w < 2 && *line != '\0';) {
            size_t len = strcspn(line, "\n");

            assert_true(len < 80);
            line += len + (line[len] == '\n');
        }
        assert_true((strchr(out.data, '`') != NULL) == (w == 2));
        buf_clear(&out);
    }
}

static void test_no_memory(void **state) {
    int n, rc = -1;

    (void)state;
    for (n = 1; n < 200; n++) {
        mem_fail_only(n);
        rc = load("PILLION_APP=shop", "PILLION_SINK=stdout:");
        mem_fail_only(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_null(config.runtime_dir);
        clear();
        assert_int_equal(mem_live(), 0);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 5);
    mem_fail_from(1);
    assert_int_equal(load("PILLION_APP=", NULL), -ENOMEM);
    mem_fail_from(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_given),
        TEST(test_each_is_read),
        TEST(test_wrong_values),
        TEST(test_sinks),
        TEST(test_empty),
        TEST(test_misspelt),
        TEST(test_not_ours),
        TEST(test_captures),
        TEST(test_captures_wrong),
        TEST(test_several),
        TEST(test_combinations),
        TEST(test_secrets_are_not_shown),
        TEST(test_values_in_files),
        TEST(test_application_name),
        TEST(test_directories),
        TEST(test_bounds_as_told),
        TEST(test_json),
        TEST(test_texts),
        TEST(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
