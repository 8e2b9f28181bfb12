/* What the environment says of the registry: Consul's variables, read as Consul's own programs read them. */
#include "agent/registry_env.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/base/mem.h"

static struct config config;
static struct registry_env e;
static char words[1024];

/* `env` ends with NULL. */
static int read_env(const char *registry, const char *const *env) {
    struct buf why;
    int rc;

    config = (struct config){.registry = (char *)(uintptr_t)registry,
                             .sink = (char *)(uintptr_t) "file:,hub:",
                             .advertise = (char *)(uintptr_t) "10.0.0.1:7468",
                             .ca_file = (char *)(uintptr_t) "/ours.pem",
                             .cert_file = (char *)(uintptr_t) "/ours.crt",
                             .key_file = (char *)(uintptr_t) "/ours.key"};
    buf_init(&why, sizeof(words));
    rc = registry_env_read(&e, &config, (char *const *)(uintptr_t)env, &why);
    (void)snprintf(words, sizeof(words), "%s", why.len > 0 ? why.data : "");
    buf_clear(&why);
    return rc;
}

static int one(const char *variable) {
    const char *env[] = {variable, NULL};

    return read_env("consul:", env);
}

static void test_p40_all_variables(void **state) {
    const char *env[] = {"CONSUL_HTTP_ADDR=c:1",     "CONSUL_HTTP_SSL=T",
                         "CONSUL_HTTP_SSL_VERIFY=f", "CONSUL_TLS_SERVER_NAME=consul.internal",
                         "CONSUL_CACERT=/dev/null",  "CONSUL_CLIENT_CERT=/dev/null",
                         "CONSUL_HTTP_TOKEN=t",      "CONSUL_HTTP_TOKEN_FILE=/f",
                         "CONSUL_HTTP_AUTH=u:p",     "CONSUL_NAMESPACE=n",
                         "CONSUL_PARTITION=p",       "CONSUL_DATACENTER=d",
                         "POD_IP=10.9.9.9",          NULL};
    const struct registry_settings *s = &e.settings;

    (void)state;
    assert_int_equal(read_env("consul:", env), 0);
    assert_string_equal(s->registry, "consul:");
    assert_string_equal(s->consul_addr, "c:1");
    assert_true(s->consul_ssl && s->no_verify);
    assert_string_equal(s->tls_name, "consul.internal");
    assert_string_equal(s->tls.ca_file, "/dev/null");
    assert_string_equal(s->tls.cert_file, "/dev/null");
    assert_null(s->tls.key_file); /* in the file of the certificate, and not ours */
    assert_string_equal(s->token, "t");
    assert_string_equal(s->token_file, "/f");
    assert_string_equal(s->auth, "u:p");
    assert_string_equal(s->namespace_, "n");
    assert_string_equal(s->partition, "p");
    assert_string_equal(s->datacenter, "d");
    assert_string_equal(e.pod_ip, "10.9.9.9");
    assert_string_equal(e.given.host, "10.0.0.1");
    assert_true(e.wants_hubs);
}

static void test_p40_without_them(void **state) {
    const char *none[] = {"CONSUL_HTTP_SSL=", "CONSUL_HTTP_TOKEN=", "CONSUL_CACERT=", NULL};
    const char *bad[] = {"CONSUL_HTTP_SSL=maybe", "CONSUL_CACERT=/not/there", NULL};

    (void)state;
    assert_int_equal(read_env("consul:", none), 0);
    assert_false(e.settings.consul_ssl || e.settings.no_verify);
    assert_null(e.settings.token);
    assert_string_equal(e.settings.tls.ca_file, "/ours.pem");
    assert_string_equal(e.settings.tls.key_file, "/ours.key");
    assert_int_equal(read_env("eureka+http://e:1", bad), 0); /* Consul's are nothing to Eureka */
    assert_int_equal(read_env("none", bad), 0);
}

static void test_p54_truth(void **state) {
    static const char *const yes[] = {"1", "t", "T", "true", "True", "TRUE"};
    static const char *const no[] = {"0", "f", "F", "false", "False", "FALSE"};
    static const char *const neither[] = {"yes", "no", "2", "tRUE", " true", "on"};
    char text[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        (void)snprintf(text, sizeof(text), "CONSUL_HTTP_SSL=%s", yes[i]);
        assert_int_equal(one(text), 0);
        assert_true(e.settings.consul_ssl);
        (void)snprintf(text, sizeof(text), "CONSUL_HTTP_SSL_VERIFY=%s", no[i]);
        assert_int_equal(one(text), 0);
        assert_true(e.settings.no_verify);
        (void)snprintf(text, sizeof(text), "CONSUL_HTTP_SSL_VERIFY=%s", neither[i]);
        assert_int_equal(one(text), -EINVAL);
        assert_non_null(strstr(words, "is neither true nor false; accepted: true"));
    }
}

static void test_p54_files(void **state) {
    char dir[] = "/tmp/pillion-unit-XXXXXX", text[128], path[128];
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(text, sizeof(text), "CONSUL_CAPATH=%s", dir);
    assert_int_equal(one(text), -EINVAL);
    assert_non_null(strstr(words, "openssl rehash"));
    (void)snprintf(path, sizeof(path), "%s/1d3472b9.0", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(one(text), 0);
    assert_string_equal(e.settings.tls.ca_file, dir);
    (void)unlink(path);
    (void)rmdir(dir);
    assert_int_equal(one("CONSUL_CLIENT_KEY=/dev/null"), -EINVAL);
    assert_int_equal(one("CONSUL_CLIENT_CERT=/not/there"), -EINVAL);
    assert_int_equal(one("CONSUL_CACERT=/not/there"), -EINVAL);
    assert_non_null(strstr(words, "CONSUL_CACERT=\"/not/there\": No such file"));
}

static void test_p54_lengths(void **state) {
    char text[400] = "CONSUL_NAMESPACE=";

    (void)state;
    memset(text + 17, 'n', 63);
    assert_int_equal(one(text), 0);
    text[17 + 63] = 'n';
    assert_int_equal(one(text), -EINVAL);
    memset(text, 'x', sizeof(text) - 1);
    memcpy(text, "CONSUL_TLS_SERVER_NAME=", 23);
    assert_int_equal(one(text), -EINVAL);
}

/* Writing the line is all that takes memory here. */
static void test_p11_no_memory(void **state) {
    (void)state;
    mem_fail_only(1);
    assert_int_equal(one("CONSUL_HTTP_SSL=maybe"), -EINVAL);
    mem_fail_only(0);
    assert_string_equal(words, "");
}

static int after_each(void **state) {
    (void)state;
    assert_int_equal(mem_live(), 0);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_p40_all_variables, after_each),
        cmocka_unit_test_teardown(test_p40_without_them, after_each),
        cmocka_unit_test_teardown(test_p54_truth, after_each),
        cmocka_unit_test_teardown(test_p54_files, after_each),
        cmocka_unit_test_teardown(test_p54_lengths, after_each),
        cmocka_unit_test_teardown(test_p11_no_memory, after_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
