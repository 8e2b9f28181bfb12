/* config.h - what the environment says. One table in config.c is the source of --help, the man page and the README table.
 *
 * Plain C: the init process uses it as well. */
#ifndef PILLION_CONFIG_H
#define PILLION_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/log.h"

struct config_keep {
    uint64_t bytes;
    uint64_t ms;
};

struct config {
    /* Strings are owned (mem_free through config_clear). */
    char *app; /* NULL: not given, the helper looks into package.json (agent/appname.c) */
    char *instance;
    char *runtime_dir;                        /* absolute */
    char *data_dir;                           /* absolute */
    char *sink;                               /* as written: a list with commas */
    char *registry;                           /* as written: uploader/registry/address.h */
    char *advertise;                          /* as written: agent/advertise.h */
    char *listen;                             /* "none", or as config_listen() reads it */
    char *store;                              /* as written: uploader/store.h */
    char *notify;                             /* as written: uploader/notify.h */
    char *token;                              /* NULL: none */
    unsigned on_blocked, on_memory, on_crash; /* 1 << enum capture_action … */
    unsigned captures_per_hour;
    struct config_keep keep;
    char *sink_token; /* NULL: none, as the next three */
    char *ca_file;
    char *cert_file;
    char *key_file;
    uint64_t sample_interval_ms;
    uint64_t flush_interval_ms;
    uint64_t batch_max_bytes;
    uint64_t spool_max_bytes;
    uint64_t spool_sync_ms;
    uint64_t blocked_after_ms;
    double memory_alarm; /* share of the limit, 0 to 1 */
    uint64_t stop_timeout_ms;
    enum log_level log_level;
    enum log_format log_format;
};

/* Reads `env` (NULL-terminated NAME=value). On a mistake returns -EINVAL with one line for people in `why` (variable, value, what
 * is accepted, the nearest name for an unknown one; secrets are not shown) and *ret holds the defaults in place of every wrong
 * value, so that `run` can go on. -ENOMEM leaves *ret cleared. Call config_clear() in every case. */
int config_load(struct config *ret, char *const *env, struct buf *why);
void config_clear(struct config *c);

#define CONFIG_IP_BYTES 46
/* Takes "IP:PORT", "[IPV6]:PORT" or "localhost:PORT" apart. -EINVAL. */
int config_listen(const char *text, char ret_ip[CONFIG_IP_BYTES], uint16_t *ret_port);
/* Can it be reached from this machine alone? */
bool config_listen_is_local(const char *ip);

/* The table as text: for --help (80 columns), as a man page section (mdoc), as a Markdown table. */
void config_help(struct buf *out);
void config_man(struct buf *out);
void config_markdown(struct buf *out);
/* {"PILLION_APP":{"value":…,"source":"environment|default"},…}; secrets as "(hidden)". */
void config_json(const struct config *c, char *const *env, struct buf *out);

#endif
