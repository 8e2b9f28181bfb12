/* PUT to the final name, then HEAD. Whether a reader can see half of it meanwhile is up to that server; it is called stored only
 * when HEAD tells our length. Query parameters of the address (a signature, perhaps) go with each request and are never shown.
 *
 *     start → PUT → on_put → HEAD → on_head → finish */
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/stores/web.h"

static void on_head(struct web *w, const struct http_reply *reply) {
    if (web_is_whole(w, reply)) {
        w->base.sent = w->base.bytes;
        store_finish(&w->base, 0, ANSWER_TAKEN, -1, "%s", "");
    }
}

/* The path behind the address, and the address as it is told. */
static void place(struct store *s, char path[STORE_KEY_BYTES + 1]) {
    struct web *w = container_of(s, struct web, base);

    (void)snprintf(path, STORE_KEY_BYTES + 1, "/%s", s->key);
    if (url_format(&w->url, path, s->url, sizeof(s->url)) != 0)
        s->url[0] = '\0'; /* the request says so */
}

static void on_put(struct web *w, const struct http_reply *reply) {
    char path[STORE_KEY_BYTES + 1];

    if (answer_meaning(reply) != ANSWER_TAKEN) {
        web_fail(w, "PUT", reply);
        return;
    }
    place(&w->base, path);
    web_ask_path(w, "HEAD", path, NULL, on_head);
}

static void put_start(struct store *s) {
    char path[STORE_KEY_BYTES + 1];

    place(s, path);
    web_put_file(container_of(s, struct web, base), path, on_put);
}

static void on_removed(struct web *w, const struct http_reply *reply) {
    /* That it cannot be taken away again is no fault of the store: it is written once. */
    (void)reply;
    store_finish(&w->base, 0, ANSWER_TAKEN, -1, "%s", "");
}

static void put_remove(struct store *s) {
    char path[STORE_KEY_BYTES + 1];

    place(s, path);
    web_ask_path(container_of(s, struct web, base), "DELETE", path, NULL, on_removed);
}

static const struct store_ops ops = {
    .start = put_start,
    .cancel = web_cancel,
    .remove = put_remove,
    .free = web_free,
};

int store_put_new(struct store **ret, const char *address, const struct store_env *env,
                  struct buf *why) {
    struct web *w = mem_calloc(1, sizeof(*w));
    int rc;

    if (w == NULL)
        return -ENOMEM;
    w->base.ops = &ops;
    rc = web_address(w, address, env, "", why);
    if (rc != 0) {
        web_free(&w->base);
        mem_free(w);
        return rc;
    }
    *ret = &w->base;
    return 0;
}
