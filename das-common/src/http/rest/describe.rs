//! The routes of [`router`](super::router), for an OpenAPI document.

use schemars::JsonSchema;
use serde_json::json;

use crate::openapi::{Answer, Document};
use crate::wire::ExpirationPolicy;

const JSON: &str = "application/json";

/// Describes the REST port of a server whose status is a `S`, and whose custody, if it has any, is a `C`.
pub fn describe<S: JsonSchema, C: JsonSchema>(document: &mut Document, has_custody: bool) {
    let data = json!({ "type": "object", "required": ["data"], "properties": {
        "data": { "type": "string", "contentEncoding": "base64", "description": "The batch." } } });
    let hash = [("hash", "The data hash: 64 hex digits, with or without 0x.")];
    document.get(
        "/get-by-hash/{hash}",
        "A batch by its data hash. May be cached for four weeks: its name is its hash.",
        &hash,
        vec![
            Answer::with(200, "The batch, checked against its hash.", JSON, data)
                .such_as(json!({ "data": "aGVsbG8=" })),
            Answer::empty(400, "That is no hash."),
            Answer::empty(404, "There is no such batch."),
            Answer::empty(503, "It cannot be told now whether there is."),
        ],
    );
    document.get(
        "/health",
        "Whether this server can do its work. For probes; anything that starts so will do.",
        &[],
        vec![Answer::empty(200, "It can."), Answer::empty(503, "It cannot; /status says why.")],
    );
    let names = [
        ExpirationPolicy::KeepForever,
        ExpirationPolicy::DiscardAfterArchiveTimeout,
        ExpirationPolicy::DiscardAfterDataTimeout,
        ExpirationPolicy::MixedTimeout,
    ];
    let policy = json!({ "type": "object", "required": ["expirationPolicy"], "properties": {
        "expirationPolicy": { "type": "string", "enum": names.map(ExpirationPolicy::name) } } });
    document.get(
        "/expiration-policy",
        "How long batches are kept.",
        &[],
        vec![
            Answer::with(200, "The policy.", JSON, policy)
                .such_as(json!({ "expirationPolicy": "KeepForever" })),
        ],
    );
    let status = document.schema::<S>();
    document.get(
        "/status",
        "Everything an operator wants to know. Fields may be added.",
        &[],
        vec![Answer::with(200, "The state.", JSON, status)],
    );
    if has_custody {
        let custody = document.schema::<C>();
        document.get(
            "/custody",
            "In which form batches are held, and how the other members are doing.",
            &[],
            vec![
                Answer::with(200, "The state of custody.", JSON, custody),
                Answer::empty(400, "This server holds no shards."),
            ],
        );
    }
    let certificate = json!({ "type": "object", "required": ["certificate"], "properties": {
        "certificate": { "type": "string", "pattern": "^0x[0-9a-f]{356}$", "description": "178 bytes." } } });
    document.get(
        "/certificate/{hash}",
        "The certificate of a batch.",
        &hash,
        vec![
            Answer::with(200, "The certificate.", JSON, certificate),
            Answer::empty(400, "That is no hash, or this server keeps no certificates."),
            Answer::empty(404, "None is known."),
            Answer::empty(503, "It cannot be told now."),
        ],
    );
}
