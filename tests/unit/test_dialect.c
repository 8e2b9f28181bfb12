/* What a registry is asked and what its answers mean: Consul's and Eureka's documents both ways, with bad ones; addresses; hubs. */
#include "uploader/registry/dialect.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/registry/address.h"

static const struct registration example = {
    .id = "shop-web-1",
    .app = "shop \"\\\xc3\xa9",
    .instance = "web-1",
    .version = "1.2.3",
    .address = "10.0.0.7",
    .port = 7468,
    .node = "v20.1.0,v22.1.0",
    .workers = 4,
};

static int tear_down(void **state) {
    (void)state;
    assert_int_equal(mem_live(), 0);
    return 0;
}

/* --- asking --- */

static json_t *asked(const struct dialect *d, enum registry_question what,
                     const struct registration *r, const struct registry_scope *scope,
                     const char *method, const char *path) {
    struct registry_ask a = {.method = NULL};
    json_t *body = NULL;

    buf_init(&a.path, 2048);
    buf_init(&a.body, 8192);
    d->ask(what, r, scope, &a);
    assert_int_equal(a.path.err, 0);
    assert_int_equal(a.body.err, 0);
    assert_string_equal(a.method, method);
    assert_string_equal(a.path.data, path);
    if (a.body.len > 0) {
        body = json_loadb(a.body.data, a.body.len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(body);
    }
    buf_clear(&a.path);
    buf_clear(&a.body);
    return body;
}

static void text_is(const json_t *object, const char *key, const char *wanted) {
    assert_string_equal(dialect_string(object, key), wanted);
}

static void test_consul_asks(void **state) {
    struct registry_scope scope = {.namespace_ = "a b", .partition = "p"};
    struct registration r = example;
    const json_t *meta, *check;
    json_t *b;

    (void)state;
    b = asked(&dialect_consul, REGISTRY_ASK_REGISTER, &r, &scope, "PUT",
              "/v1/agent/service/register?replace-existing-checks=true&ns=a%20b&partition=p");
    text_is(b, "ID", "shop-web-1");
    text_is(b, "Name", "pillion");
    text_is(b, "Address", "10.0.0.7");
    assert_int_equal(json_integer_value(json_object_get(b, "Port")), 7468);
    meta = json_object_get(b, "Meta");
    text_is(meta, "app", example.app);
    text_is(meta, "instance", "web-1");
    text_is(meta, "version", "1.2.3");
    text_is(meta, "node", "v20.1.0,v22.1.0");
    text_is(meta, "workers", "4"); /* Consul takes strings only */
    text_is(meta, "commands", "none");
    check = json_object_get(b, "Check");
    text_is(check, "CheckID", "shop-web-1");
    text_is(check, "TTL", "30s");
    text_is(check, "Status", "passing");
    text_is(check, "DeregisterCriticalServiceAfter", "15m");
    json_decref(b);

    r.address[0] = '\0';
    r.port = 0;
    r.commands = true;
    scope = (struct registry_scope){.partition = "p"};
    b = asked(&dialect_consul, REGISTRY_ASK_REGISTER, &r, &scope, "PUT",
              "/v1/agent/service/register?replace-existing-checks=true&partition=p");
    assert_null(json_object_get(b, "Address")); /* Consul puts its node's there */
    text_is(json_object_get(b, "Meta"), "commands", "port");
    json_decref(b);
    assert_null(asked(&dialect_consul, REGISTRY_ASK_PASS, &r, &scope, "PUT",
                      "/v1/agent/check/pass/shop-web-1?partition=p"));
    scope.partition[0] = '\0';
    assert_null(asked(&dialect_consul, REGISTRY_ASK_LEAVE, &r, &scope, "PUT",
                      "/v1/agent/service/deregister/shop-web-1"));
}

static void test_eureka_asks(void **state) {
    struct registry_scope none = {.namespace_ = ""};
    struct registration r = example;
    const json_t *x, *port;
    json_t *b;

    (void)state;
    b = asked(&dialect_eureka, REGISTRY_ASK_REGISTER, &r, &none, "POST", "/apps/PILLION");
    x = json_object_get(b, "instance");
    text_is(x, "instanceId", "shop-web-1");
    text_is(x, "app", "PILLION");
    text_is(x, "status", "UP");
    text_is(x, "ipAddr", "10.0.0.7");
    port = json_object_get(x, "port");
    assert_int_equal(json_integer_value(json_object_get(port, "$")), 7468);
    text_is(port, "@enabled", "true");
    text_is(json_object_get(x, "metadata"), "app", example.app);
    assert_null(json_object_get(x, "lastDirtyTimestamp")); /* P48: no clock of ours decides there */
    json_decref(b);
    r.port = 0;
    b = asked(&dialect_eureka, REGISTRY_ASK_REGISTER, &r, &none, "POST", "/apps/PILLION");
    port = json_object_get(json_object_get(b, "instance"), "port");
    assert_int_equal(json_integer_value(json_object_get(port, "$")), 0);
    text_is(port, "@enabled", "false");
    json_decref(b);
    assert_null(
        asked(&dialect_eureka, REGISTRY_ASK_PASS, &r, &none, "PUT", "/apps/PILLION/shop-web-1"));
    assert_null(asked(&dialect_eureka, REGISTRY_ASK_LEAVE, &r, &none, "DELETE",
                      "/apps/PILLION/shop-web-1"));
}

static void found(const struct dialect *d, const struct registry_scope *scope, uint64_t index,
                  const char *wanted) {
    struct buf path;

    buf_init(&path, 1024);
    d->find(&path, "pillion-hub", scope, index, 120);
    assert_string_equal(path.data, wanted);
    buf_clear(&path);
}

static void test_finding(void **state) {
    struct registry_scope none = {.namespace_ = ""}, all = {"n", "p", "eu/1"};

    (void)state;
    found(&dialect_consul, &none, 0, "/v1/health/service/pillion-hub?passing=true&stale=true");
    found(&dialect_consul, &none, 17,
          "/v1/health/service/pillion-hub?passing=true&stale=true&index=17&wait=120s");
    found(&dialect_consul, &all, 0,
          "/v1/health/service/pillion-hub?passing=true&stale=true&dc=eu%2F1&ns=n&partition=p");
    found(&dialect_eureka, &none, 17, "/apps/PILLION-HUB");
}

static void test_what_answers_mean(void **state) {
    static const struct {
        enum registry_question what;
        long status;
        enum schedule_answer consul, eureka;
    } rows[] = {
        {REGISTRY_ASK_REGISTER, 200, SCHEDULE_DONE, SCHEDULE_DONE},
        {REGISTRY_ASK_REGISTER, 204, SCHEDULE_DONE, SCHEDULE_DONE},
        {REGISTRY_ASK_REGISTER, 301, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_REGISTER, 400, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_REGISTER, 403, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_REGISTER, 404, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_REGISTER, 500, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_PASS, 200, SCHEDULE_DONE, SCHEDULE_DONE},
        {REGISTRY_ASK_PASS, 404, SCHEDULE_FORGOTTEN, SCHEDULE_FORGOTTEN},
        {REGISTRY_ASK_PASS, 500, SCHEDULE_FORGOTTEN, SCHEDULE_REFUSED},
        {REGISTRY_ASK_PASS, 403, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_PASS, 429, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_PASS, 503, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
        {REGISTRY_ASK_LEAVE, 200, SCHEDULE_DONE, SCHEDULE_DONE},
        {REGISTRY_ASK_LEAVE, 404, SCHEDULE_DONE, SCHEDULE_DONE},
        {REGISTRY_ASK_LEAVE, 403, SCHEDULE_REFUSED, SCHEDULE_REFUSED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(dialect_consul.judge(rows[i].what, rows[i].status), rows[i].consul);
        assert_int_equal(dialect_eureka.judge(rows[i].what, rows[i].status), rows[i].eureka);
    }
}

static void test_ids(void **state) {
    char a[REGISTRY_ID_BYTES], b[REGISTRY_ID_BYTES], longest[300];

    (void)state;
    registration_id(a, "shop", "web-1");
    assert_string_equal(a, "shop-web-1");
    registration_id(a, "@team/shop", "w\xc3\xa9");
    registration_id(b, "@team-shop", "w\xc3\xa9");
    assert_memory_equal(a, "-team-shop-w---", 15);
    assert_string_not_equal(a, b);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    registration_id(a, longest, "1");
    registration_id(b, longest, "2");
    assert_int_equal(strlen(a), REGISTRY_ID_BYTES - 1);
    assert_string_not_equal(a, b);
}

/* --- lists of hubs --- */

static int read_hubs(const struct dialect *d, const char *body, struct hubs *ret) {
    hubs_init(ret, 1);
    return d->hubs(body, strlen(body), ret);
}

static bool has(const struct hubs *h, const char *url) {
    for (unsigned i = 0; i < h->n; i++)
        if (strcmp(h->list[i].url, url) == 0)
            return true;
    return false;
}

static void test_consul_hubs(void **state) {
    struct hubs h;

    (void)state;
    assert_int_equal(
        read_hubs(
            &dialect_consul,
            "[{\"Node\":{\"Address\":\"10.0.0.1\"},\"Service\":{\"Address\":\"\",\"Port\":80}},"
            "{\"Service\":{\"Address\":\"10.0.0.2\",\"Port\":81,\"Tags\":[\"x\",\"https\"]}},"
            "{\"Service\":{\"Address\":\"10.0.0.3\",\"Port\":82,\"Meta\":{\"scheme\":\"https\"}}},"
            "{\"Service\":{\"Address\":\"fd00::4\",\"Port\":83}},"
            "{\"Service\":{\"Address\":\"10.0.0.5\",\"Port\":84},"
            "\"Checks\":[{\"Status\":\"passing\"},{\"Status\":\"critical\"}]},"
            "{\"Service\":{\"Address\":\"10.0.0.6\",\"Port\":0}},"
            "{\"Service\":{\"Address\":\"10.0.0.7\",\"Port\":65536}},"
            "{\"Service\":{\"Address\":\"evil/path?@\",\"Port\":85}},"
            "{\"Service\":{\"Address\":7,\"Port\":\"85\"}},7,null,[],"
            "{\"Node\":{\"Address\":\"10.0.0.1\"},\"Service\":{\"Port\":80}}]",
            &h),
        0);
    assert_int_equal(h.n, 4);
    assert_true(has(&h, "http://10.0.0.1:80"));
    assert_true(has(&h, "https://10.0.0.2:81"));
    assert_true(has(&h, "https://10.0.0.3:82"));
    assert_true(has(&h, "http://[fd00::4]:83"));
    assert_int_equal(read_hubs(&dialect_consul, "[]", &h), 0);
    assert_int_equal(h.n, 0);
}

static void test_eureka_hubs(void **state) {
    struct hubs h;

    (void)state;
    assert_int_equal(
        read_hubs(
            &dialect_eureka,
            "{\"application\":{\"name\":\"PILLION-HUB\",\"instance\":["
            "{\"status\":\"UP\",\"ipAddr\":\"10.0.0.1\",\"hostName\":\"a\","
            "\"port\":{\"$\":80,\"@enabled\":\"true\"}},"
            "{\"status\":\"UP\",\"ipAddr\":\"10.0.0.2\",\"port\":{\"$\":\"81\",\"@enabled\":true}},"
            "{\"status\":\"UP\",\"ipAddr\":\"10.0.0.3\",\"hostName\":\"c.example\","
            "\"port\":{\"$\":82,\"@enabled\":\"false\"},\"securePort\":{\"$\":443,\"@enabled\":"
            "\"true\"}},"
            "{\"status\":\"DOWN\",\"ipAddr\":\"10.0.0.4\",\"port\":{\"$\":83,\"@enabled\":\"true\"}"
            "},"
            "{\"status\":\"UP\",\"ipAddr\":\"10.0.0.5\",\"port\":{\"$\":84,\"@enabled\":\"false\"}}"
            ","
            "{\"status\":\"UP\",\"ipAddr\":\"10.0.0.6\",\"port\":{\"$\":\"-1\",\"@enabled\":"
            "\"true\"}},"
            "{\"status\":\"UP\"},5,null]}}",
            &h),
        0);
    assert_int_equal(h.n, 3);
    assert_true(has(&h, "http://10.0.0.1:80"));
    assert_true(has(&h, "http://10.0.0.2:81"));
    assert_true(has(&h, "https://c.example:443"));
    /* a single one is an object, in XStream's JSON */
    assert_int_equal(
        read_hubs(&dialect_eureka,
                  "{\"application\":{\"instance\":{\"status\":\"UP\",\"hostName\":\"only\","
                  "\"port\":{\"$\":7000,\"@enabled\":\"true\"}}}}",
                  &h),
        0);
    assert_int_equal(h.n, 1);
    assert_true(has(&h, "http://only:7000"));
}

static void test_bad_documents(void **state) {
    static const char *const bad[] = {"",
                                      "{",
                                      "null",
                                      "7",
                                      "\"[]\"",
                                      "[",
                                      "[]x",
                                      "<html>",
                                      "{\"a\":1,\"a\":2}",
                                      "[\"\xff\"]",
                                      "[{\"Service\":{\"Port\":1e999}}]"};
    struct hubs h;
    struct buf deep;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(read_hubs(&dialect_consul, bad[i], &h), -EINVAL);
        assert_int_equal(read_hubs(&dialect_eureka, bad[i], &h), -EINVAL);
        assert_int_equal(h.n, 0);
    }
    assert_int_equal(read_hubs(&dialect_consul, "{}", &h), -EINVAL);
    assert_int_equal(read_hubs(&dialect_eureka, "[]", &h), -EINVAL);
    buf_init(&deep, 1 << 20);
    for (int i = 0; i < 2000; i++)
        buf_putc(&deep, '[');
    for (int i = 0; i < 2000; i++)
        buf_putc(&deep, ']');
    assert_int_equal(read_hubs(&dialect_consul, deep.data, &h), -EINVAL);
    buf_reset(&deep);
    buf_putc(&deep, '[');
    for (int i = 0; i < 20000; i++)
        buf_puts(&deep, "{},");
    buf_puts(&deep, "{}]");
    assert_int_equal(read_hubs(&dialect_consul, deep.data, &h), -EINVAL);
    buf_clear(&deep);
}

/* --- which hub --- */

#define MINUTE 60000u

static void three(struct hubs *h, uint64_t key) {
    hubs_init(h, key);
    for (int64_t port = 1; port <= 3; port++)
        assert_int_equal(hubs_add(h, false, "hub", port), 0);
}

/* P42: one of three fails: the next one at once, and the first again after a minute. */
static void test_p42_failover_and_back(void **state) {
    struct hubs h;
    char first[HUB_URL_BYTES], second[HUB_URL_BYTES], third[HUB_URL_BYTES];

    (void)state;
    three(&h, 7);
    (void)text_copy(first, sizeof(first), hubs_pick(&h, 1000));
    assert_true(hubs_failed(&h, first, 1000));
    (void)text_copy(second, sizeof(second), hubs_pick(&h, 1000));
    assert_string_not_equal(first, second);
    assert_true(hubs_failed(&h, second, 2000));
    (void)text_copy(third, sizeof(third), hubs_pick(&h, 2000));
    assert_string_not_equal(second, third);
    assert_true(hubs_failed(&h, third, 3000)); /* all have: the one that failed first */
    assert_string_equal(hubs_pick(&h, 3000), first);
    three(&h, 7);
    (void)hubs_failed(&h, first, 1000);
    assert_string_equal(hubs_pick(&h, 1000 + MINUTE - 1), second);
    assert_string_equal(hubs_pick(&h, 1000 + MINUTE), first);
    (void)hubs_failed(&h, first, 1000 + MINUTE);
    hubs_worked(&h, first);
    assert_string_equal(hubs_pick(&h, 1001 + MINUTE), first);
    (void)hubs_failed(&h, "http://unknown:1", 5);
    hubs_worked(&h, "http://unknown:1");
    hubs_init(&h, 7);
    assert_null(hubs_pick(&h, 1));
    assert_false(hubs_failed(&h, first, 1));
}

/* P41: an empty list is not believed for ten minutes; a failure is remembered through a new list. */
static void test_p41_last_good_list_is_kept(void **state) {
    struct hubs h, answer, none;
    char first[HUB_URL_BYTES];

    (void)state;
    hubs_init(&h, 7);
    hubs_init(&none, 7);
    assert_false(hubs_update(&h, &none, 0));
    three(&answer, 7);
    assert_true(hubs_update(&h, &answer, 1000));
    assert_false(hubs_update(&h, &answer, 5000));
    assert_false(hubs_update(&h, &none, 5001));
    assert_false(hubs_update(&h, &none, 5000 + 10 * MINUTE - 1));
    assert_int_equal(h.n, 3);
    (void)text_copy(first, sizeof(first), hubs_pick(&h, 6000));
    (void)hubs_failed(&h, first, 6000);
    assert_int_equal(hubs_add(&answer, true, "fd00::1", 9), 0);
    assert_true(hubs_update(&h, &answer, 7000));
    assert_int_equal(h.n, 4);
    assert_string_not_equal(hubs_pick(&h, 7000), first);
    assert_true(hubs_update(&h, &none, 7000 + 10 * MINUTE));
    assert_null(hubs_pick(&h, 7000 + 10 * MINUTE));
}

/* A thousand helpers spread over ten hubs; without one of them only its own move. */
static void test_helpers_spread_over_hubs(void **state) {
    unsigned at[11] = {0}, moved = 0, most = 0, least = UINT32_MAX;
    char instance[32];

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        struct hubs all, fewer;
        const char *a, *b;

        (void)snprintf(instance, sizeof(instance), "web-%u", i);
        hubs_init(&all, schedule_key("shop", instance));
        hubs_init(&fewer, schedule_key("shop", instance));
        for (int64_t port = 1; port <= 10; port++) {
            (void)hubs_add(&all, false, "hub", port);
            if (port != 4)
                (void)hubs_add(&fewer, false, "hub", port);
        }
        a = hubs_pick(&all, 0);
        b = hubs_pick(&fewer, 0);
        at[strtoul(strrchr(a, ':') + 1, NULL, 10)]++;
        moved += strcmp(a, b) != 0 && strcmp(a, "http://hub:4") != 0;
    }
    for (unsigned i = 1; i <= 10; i++) {
        most = at[i] > most ? at[i] : most;
        least = at[i] < least ? at[i] : least;
    }
    print_message("1000 helpers at 10 hubs: %u to %u each\n", least, most);
    assert_in_range(least, 60, 100);
    assert_in_range(most, 100, 140);
    assert_int_equal(moved, 0);
}

static void test_more_hubs_than_remembered(void **state) {
    struct hubs h;

    (void)state;
    hubs_init(&h, 3);
    for (int64_t port = 1; port <= 200; port++)
        assert_int_equal(hubs_add(&h, false, "hub", port), 0);
    assert_int_equal(h.n, LIMIT_HUBS);
    for (unsigned i = 1; i < h.n; i++)
        assert_true(h.list[i - 1].rank <= h.list[i].rank);
    assert_int_equal(hubs_add(&h, false, "", 1), -EINVAL);
    assert_int_equal(hubs_add(&h, false, "a b", 1), -EINVAL);
    assert_int_equal(hubs_add(&h, false, "a/b", 1), -EINVAL);
    assert_int_equal(hubs_add(&h, false, "u@h", 1), -EINVAL);
    assert_int_equal(hubs_add(&h, false, "hub", 0), -EINVAL);
    assert_int_equal(hubs_add(&h, false, "hub", 65536), -EINVAL);
}

/* --- addresses --- */

static void address(const char *text, const char *consul_addr, bool ssl, enum registry_kind kind,
                    const char *wanted) {
    struct registry_address a;
    struct buf why;
    char got[1024] = "";

    buf_init(&why, 512);
    if (registry_address_parse(&a, text, consul_addr, ssl, &why) != 0)
        fail_msg("%s: %s", text, why.data);
    assert_int_equal(a.kind, kind);
    if (a.unix_path != NULL)
        (void)snprintf(got, sizeof(got), "unix:%s", a.unix_path);
    for (unsigned i = 0; a.unix_path == NULL && i < a.n; i++) {
        size_t len = strlen(got);

        (void)snprintf(got + len, sizeof(got) - len, "%s", i > 0 ? " " : "");
        assert_int_equal(url_format(&a.servers[i], "", got + strlen(got), sizeof(got) - len - 2),
                         0);
    }
    assert_string_equal(got, wanted);
    registry_address_clear(&a);
    buf_clear(&why);
}

static void no_address(const char *text, const char *consul_addr) {
    struct registry_address a;
    struct buf why;

    buf_init(&why, 512);
    assert_int_equal(registry_address_parse(&a, text, consul_addr, false, &why), -EINVAL);
    assert_true(why.len > 0);
    assert_null(strstr(why.data, "secret"));
    assert_int_equal(a.n, 0);
    buf_clear(&why);
    assert_int_equal(mem_live(), 0);
}

static void test_addresses(void **state) {
    (void)state;
    address("none", NULL, false, REGISTRY_NONE, "");
    address("consul+http://c:8500", "x:1", false, REGISTRY_CONSUL, "http://c:8500");
    address("consul+https://c:8501/", NULL, false, REGISTRY_CONSUL, "https://c:8501");
    address("consul+unix:///run/consul.sock", NULL, false, REGISTRY_CONSUL,
            "unix:/run/consul.sock");
    address("consul:", NULL, false, REGISTRY_CONSUL, "http://127.0.0.1:8500");
    address("consul:", "", false, REGISTRY_CONSUL, "http://127.0.0.1:8500");
    address("consul:", NULL, true, REGISTRY_CONSUL, "https://127.0.0.1:8501");
    address("consul:", "c:8500", false, REGISTRY_CONSUL, "http://c:8500");
    address("consul:", "c:8500", true, REGISTRY_CONSUL, "https://c:8500");
    address("consul:", "[fd00::1]:8500", false, REGISTRY_CONSUL, "http://[fd00::1]:8500");
    address("consul:", "https://c:8501", false, REGISTRY_CONSUL, "https://c:8501");
    address("consul:", "unix:///s", false, REGISTRY_CONSUL, "unix:/s");
    address("eureka+http://e:8761/eureka", NULL, false, REGISTRY_EUREKA, "http://e:8761/eureka");
    address("eureka+http://e:8761/eureka/v2/", NULL, false, REGISTRY_EUREKA,
            "http://e:8761/eureka/v2");
    address("eureka+http://e:8761", NULL, false, REGISTRY_EUREKA, "http://e:8761/eureka");
    address("eureka+http://a:1,http://b:2/x,eureka+https://u:secret@c:3", NULL, false,
            REGISTRY_EUREKA, "http://a:1/eureka http://b:2/x https://c:3/eureka");
    no_address("consul", NULL);
    no_address("consul+", NULL);
    no_address("consul+ftp://u:secret@c", NULL);
    no_address("consul+http://c:8500?token=secret", NULL);
    no_address("consul+http://a,http://b", NULL);
    no_address("consul+unix://", NULL);
    no_address("consul+unix://relative", NULL);
    no_address("consul:", "ftp://u:secret@x");
    no_address("consul:", "a b");
    no_address("eureka+", NULL);
    no_address("eureka+http://a,", NULL);
    no_address("eureka+http://a,,http://b", NULL);
    no_address("eureka+http://1,http://2,http://3,http://4,http://5,http://6,http://7,http://8,"
               "http://9",
               NULL);
    no_address("zookeeper+http://z", NULL);
    no_address("", NULL);
}

static void test_no_memory(void **state) {
    const char *text = "eureka+http://u:p@a:1,https://b:2/x";
    struct registry_address a;
    int rc = -ENOMEM;

    (void)state;
    for (long n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = registry_address_parse(&a, text, NULL, false, NULL);
        mem_fail_only(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc != 0)
            assert_int_equal(mem_live(), 0);
    }
    registry_address_clear(&a);
    rc = -ENOMEM;
    for (long n = 1; n < 60; n++) {
        struct registry_ask ask = {.method = NULL};
        struct registry_scope none = {.namespace_ = ""};
        struct hubs h;

        buf_init(&ask.path, 1024);
        buf_init(&ask.body, 8192);
        mem_fail_only(n);
        dialect_consul.ask(REGISTRY_ASK_REGISTER, &example, &none, &ask);
        (void)read_hubs(&dialect_consul, "[{\"Service\":{\"Address\":\"a\",\"Port\":1}}]", &h);
        mem_fail_only(0);
        assert_true(h.n <= 1);
        buf_clear(&ask.path);
        buf_clear(&ask.body);
        assert_int_equal(mem_live(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_consul_asks, tear_down),
        cmocka_unit_test_teardown(test_eureka_asks, tear_down),
        cmocka_unit_test_teardown(test_finding, tear_down),
        cmocka_unit_test_teardown(test_what_answers_mean, tear_down),
        cmocka_unit_test_teardown(test_ids, tear_down),
        cmocka_unit_test_teardown(test_consul_hubs, tear_down),
        cmocka_unit_test_teardown(test_eureka_hubs, tear_down),
        cmocka_unit_test_teardown(test_bad_documents, tear_down),
        cmocka_unit_test_teardown(test_p42_failover_and_back, tear_down),
        cmocka_unit_test_teardown(test_p41_last_good_list_is_kept, tear_down),
        cmocka_unit_test_teardown(test_helpers_spread_over_hubs, tear_down),
        cmocka_unit_test_teardown(test_more_hubs_than_remembered, tear_down),
        cmocka_unit_test_teardown(test_addresses, tear_down),
        cmocka_unit_test_teardown(test_no_memory, tear_down),
    };

    json_set_alloc_funcs(mem_alloc, mem_free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
