/* client.h - what the commands share: their arguments, the way to the helper's status socket, and
 * what to say when it is not there.
 *
 * Blocking; one thread. Errors have been printed when a function here returns a code of
 * sysexits(3) that is not 0. */
#ifndef PILLION_CLI_CLIENT_H
#define PILLION_CLI_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/config.h"
#include "uploader/http.h"

struct client {
    const char *command; /* "status", for messages */
    struct config config;
    struct buf
        config_error; /* what config_load() did not like; the helper will not have liked it either */
    int dirfd;        /* the runtime directory, or -1 */
    struct http_client *http;
};

/* Reads the configuration and looks for the helper. Always client_close() it. */
int client_open(struct client *c, const char *command, char *const *env);
void client_close(struct client *c);

/* The body of the page, which must be a 200. With `quiet` nothing is printed: the reason is in
 * *ret_why (256 bytes). */
int client_get(struct client *c, const char *path, struct buf *ret_body);
int client_get_quiet(struct client *c, const char *path, struct buf *ret_body, char *why);
/* The same, parsed; json_decref() it. */
int client_get_json(struct client *c, const char *path, json_t **ret);

/* Another method, with a body of JSON or NULL. The answer, whatever its status, is parsed; json_decref() it. An answer of 4xx or 5xx
 * is printed by its "error", and is EX_DATAERR, EX_UNAVAILABLE (404), EX_TEMPFAIL (429, 503). */
int client_ask(struct client *c, const char *method, const char *path, const char *json,
               json_t **ret);

/* Arguments: --help and --json for all. Returns -1 to go on, else the exit code. */
int client_arguments(int argc, char **argv, const char *help, bool *ret_json);
/* Prints "pillion COMMAND: WRONG" and where help is; EX_USAGE. */
int client_usage(const char *command, const char *wrong);
/* Writes all of it to standard output; EX_OK, or EX_IOERR. */
int client_print(const struct buf *b);

/* For values in parsed pages: NaN, "" when there is none. */
double client_number(const json_t *object, const char *key);
const char *client_string(const json_t *object, const char *key);

#endif
