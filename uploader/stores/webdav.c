/* WebDAV (RFC 4918). PUT is not atomic on servers that many people have (some keep what came before the connection was cut), so the
 * final name is only ever reached by a MOVE of something that was looked at.
 *
 *     start → MKCOL of each folder → PUT of a temporary name beside it → HEAD → MOVE, Overwrite: F → (412: Overwrite: T) → HEAD
 *     a failure after the PUT has begun → DELETE of the temporary name → the failure is told
 *
 * Overwrite is F first, because T makes some servers delete before they move. What stands there already is of an earlier attempt
 * whose end we did not hear of; it is replaced by what was verified now. */
#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/stores/web.h"

#define PATH_BYTES (URL_SHOW_BYTES + STORE_KEY_BYTES + 64)

struct webdav {
    struct web web; /* the path of the address is taken out of web.url and stands in base */
    char *base;     /* "" or "/dav/files" */
    char final[PATH_BYTES], tmp[PATH_BYTES + 32]; /* from the root of the server */
    char folder[PATH_BYTES];                      /* that is being made, with its last '/' */
    char known[PATH_BYTES];                       /* the one that was made last */
    bool upward;                                  /* none has been found yet */
    /* The failure that is told after the temporary name is gone. */
    struct store_result failure;
    char why[STORE_ERROR_BYTES];
};

static struct webdav *of(struct web *w) {
    return container_of(w, struct webdav, web);
}

/* --- the end ------------------------------------------------------------------------------------ */

static void on_tmp_gone(struct web *w, const struct http_reply *reply) {
    struct webdav *d = of(w);

    (void)reply; /* when it failed, the next attempt writes over it */
    store_finish(&w->base, d->failure.rc, d->failure.answer, d->failure.retry_after_ms, "%s",
                 d->why);
}

/* The store has been finished with a failure: that is taken back until the temporary name is gone. */
static void clean_up(struct web *w) {
    struct webdav *d = of(w);

    d->failure = w->base.result;
    (void)text_copy(d->why, sizeof(d->why), w->base.error);
    if (w->base.cancelled)
        return;
    w->base.finished = false;
    web_ask_path(w, "DELETE", d->tmp, NULL, on_tmp_gone);
}

static void fail(struct web *w, const char *what, const struct http_reply *reply) {
    of(w)->known[0] = '\0'; /* somebody may have taken the folders away */
    web_fail(w, what, reply);
    clean_up(w);
}

static void on_final_head(struct web *w, const struct http_reply *reply) {
    if (!web_is_whole(w, reply))
        return;
    w->base.sent = w->base.bytes;
    store_finish(&w->base, 0, ANSWER_TAKEN, -1, "%s", "");
}

/* --- MOVE --------------------------------------------------------------------------------------- */

static void move_it(struct web *w, bool overwrite, web_next_cb next) {
    struct webdav *d = of(w);
    char line[STORE_URL_BYTES + 16];
    const char *const headers[] = {line, overwrite ? "Overwrite: T" : "Overwrite: F", NULL};

    (void)snprintf(line, sizeof(line), "Destination: %s", w->base.url);
    web_ask_path(w, "MOVE", d->tmp, headers, next);
}

static void on_moved_over(struct web *w, const struct http_reply *reply) {
    if (answer_meaning(reply) != ANSWER_TAKEN) {
        fail(w, "MOVE to the final name", reply);
        return;
    }
    web_ask_path(w, "HEAD", of(w)->final, NULL, on_final_head);
}

static void on_moved(struct web *w, const struct http_reply *reply) {
    if (reply->rc == 0 && reply->status == 412)
        move_it(w, true, on_moved_over);
    else
        on_moved_over(w, reply);
}

/* --- PUT ---------------------------------------------------------------------------------------- */

static void on_tmp_head(struct web *w, const struct http_reply *reply) {
    if (web_is_whole(w, reply))
        move_it(w, false, on_moved);
    else
        clean_up(w);
}

static void on_put(struct web *w, const struct http_reply *reply) {
    if (answer_meaning(reply) != ANSWER_TAKEN)
        fail(w, "PUT", reply);
    else
        web_ask_path(w, "HEAD", of(w)->tmp, NULL, on_tmp_head);
}

/* --- MKCOL -------------------------------------------------------------------------------------- */

static void on_made(struct web *w, const struct http_reply *reply);

static void make(struct webdav *d, size_t len) {
    (void)text_copy(d->folder, len + 1, d->final); /* fits: as long as it is */
    web_ask_path(&d->web, "MKCOL", d->folder, NULL, on_made);
}

/* Behind the folder that was just made or found: the next one, then the file. */
static void go_on(struct webdav *d) {
    const char *slash = strchr(d->final + strlen(d->folder), '/');

    if (slash != NULL) {
        make(d, (size_t)(slash - d->final) + 1);
        return;
    }
    (void)text_copy(d->known, sizeof(d->known), d->folder);
    web_put_file(&d->web, d->tmp, on_put);
}

/* Length of the folder above, with its '/'; 1: the root. */
static size_t above(const char *folder) {
    size_t len = strlen(folder) - 1;

    while (len > 1 && folder[len - 1] != '/')
        len--;
    return len;
}

static void on_made(struct web *w, const struct http_reply *reply) {
    struct webdav *d = of(w);
    bool missing = reply->rc == 0 && (reply->status == 409 || reply->status == 404);

    /* 405: it is there. */
    if (answer_meaning(reply) == ANSWER_TAKEN || (reply->rc == 0 && reply->status == 405)) {
        d->upward = false;
        go_on(d);
    } else if (missing && d->upward && above(d->folder) > 1) {
        make(d, above(d->folder)); /* the address itself is not there yet */
    } else {
        web_fail(w, "MKCOL", reply);
    }
}

static void webdav_start(struct store *s) {
    struct webdav *d = of(container_of(s, struct web, base));
    size_t base = strlen(d->base) + 1, folder;

    (void)snprintf(d->final, sizeof(d->final), "%s/%s", d->base, s->key);
    /* Beside it: a MOVE between folders is a copy for some. The same for each attempt, so that there is one at most. */
    (void)snprintf(d->tmp, sizeof(d->tmp), "%s.pillion-%.8s", d->final, s->sha256);
    folder = (size_t)(strrchr(d->final, '/') - d->final) + 1;
    d->upward = true;
    if (url_format(&d->web.url, d->final, s->url, sizeof(s->url)) != 0)
        s->url[0] = '\0'; /* each request says so */
    (void)text_copy(d->folder, folder + 1, d->final);
    if (strcmp(d->known, d->folder) == 0 || folder == 1)
        go_on(d);
    else if (folder == base)
        make(d, base); /* of a probe: the address itself */
    else
        make(d, (size_t)(strchr(d->final + base, '/') - d->final) + 1);
}

/* --- the rest ----------------------------------------------------------------------------------- */

static void on_removed(struct web *w, const struct http_reply *reply) {
    (void)reply; /* see put.c */
    store_finish(&w->base, 0, ANSWER_TAKEN, -1, "%s", "");
}

static void webdav_remove(struct store *s) {
    struct web *w = container_of(s, struct web, base);

    web_ask_path(w, "DELETE", of(w)->final, NULL, on_removed);
}

static void webdav_free(struct store *s) {
    mem_free(of(container_of(s, struct web, base))->base);
    web_free(s);
}

static const struct store_ops ops = {
    .start = webdav_start,
    .cancel = web_cancel,
    .remove = webdav_remove,
    .free = webdav_free,
};

int store_webdav_new(struct store **ret, const char *address, const struct store_env *env,
                     struct buf *why) {
    struct webdav *d = mem_calloc(1, sizeof(*d));
    int rc;

    if (d == NULL)
        return -ENOMEM;
    d->web.base.ops = &ops;
    rc = web_address(&d->web, address, env, "webdav+", why);
    if (rc == 0 && d->web.url.query != NULL) {
        buf_puts(why, "PILLION_STORE=webdav+…: an address of WebDAV has no parameters (\"?…\")");
        rc = -EINVAL;
    }
    if (rc == 0) {
        d->base = d->web.url.path;
        d->web.url.path = mem_strdup("");
        rc = d->web.url.path != NULL ? 0 : -ENOMEM;
    }
    if (rc != 0) {
        webdav_free(&d->web.base);
        mem_free(d);
        return rc;
    }
    *ret = &d->web.base;
    return 0;
}
