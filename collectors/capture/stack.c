/* stack.c - the stack of a paused thread, from what V8's debugger says of it to what people read.
 *
 * Debugger.paused: https://chromedevtools.github.io/devtools-protocol/v8/Debugger/#event-paused ; lines and columns count from 0. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "collectors/capture/job.h"

#define FRAMES_MAX 128

/* The url of a script as a new string, or NULL. */
static json_t *find_url(const struct buf *scripts, const char *id) {
    char key[32];
    const char *at, *end;

    if (id == NULL || scripts->len == 0 || strlen(id) + 3 > sizeof(key))
        return NULL;
    (void)snprintf(key, sizeof(key), "\n%s ", id);
    at = strstr(scripts->data, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    end = strchr(at, '\n');
    return json_loadb(at, end != NULL ? (size_t)(end - at) : strlen(at), JSON_DECODE_ANY, NULL);
}

static void write_frame(const json_t *frame, const struct buf *scripts, struct buf *out) {
    const json_t *location = json_object_get(frame, "location");
    const char *name = json_string_value(json_object_get(frame, "functionName"));
    json_t *found = find_url(scripts, json_string_value(json_object_get(location, "scriptId")));
    const char *url = json_string_value(found != NULL ? found : json_object_get(frame, "url"));
    json_int_t line = json_integer_value(json_object_get(location, "lineNumber"));
    json_int_t column = json_integer_value(json_object_get(location, "columnNumber"));

    buf_puts(out, "{\"function\":");
    buf_json_string(out, name != NULL ? name : "");
    buf_puts(out, ",\"url\":");
    buf_json_string(out, url != NULL ? url : "");
    json_decref(found);
    buf_printf(out, ",\"line\":%lld,\"column\":%lld}", (long long)line + 1, (long long)column + 1);
}

int stack_write(const char *json, size_t len, const struct buf *scripts, struct buf *out) {
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *frames = json_object_get(json_object_get(root, "params"), "callFrames");
    size_t n = json_array_size(frames);
    int rc = json_is_array(frames) ? 0 : -EPROTO;

    if (rc == 0) {
        buf_printf(out, "{\"state\":\"blocked\",\"frames\":%zu,\"stack\":[", n);
        for (size_t i = 0; i < n && i < FRAMES_MAX; i++) {
            if (i > 0)
                buf_putc(out, ',');
            write_frame(json_array_get(frames, i), scripts, out);
        }
        buf_puts(out, "]}");
        rc = out->err;
    }
    json_decref(root);
    return rc;
}
