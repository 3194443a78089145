//! Every parser of das-common that reads what strangers send, as a function of bytes.
//!
//! Each must return for any input: no panic, no endless loop, no memory out of proportion to the input. Beyond that,
//! each checks what its parser promises: what is written is read back as the same, what the strict reading accepts the
//! lenient one accepts too. The fuzz targets of this crate and the property tests of das-common (`tests/parsers.rs`)
//! run the same functions.

mod keys;
mod network;
mod shards;
mod text;

/// A parser under test.
pub struct Parser {
    /// Name, also that of its fuzz target.
    pub name: &'static str,
    /// Parses and checks; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Valid inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that may be used for each byte of input, at the peak.
    pub memory_per_byte: usize,
    /// How many inputs a property test tries; few for parsers that verify signatures.
    pub cases: u32,
}

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "certificate",
        run: keys::certificate,
        seeds: keys::certificate_seeds,
        memory_per_byte: 16,
        cases: 2_000,
    },
    Parser {
        name: "sequencer_message",
        run: keys::sequencer_message,
        seeds: keys::sequencer_message_seeds,
        memory_per_byte: 16,
        cases: 2_000,
    },
    Parser { name: "keyset", run: keys::keyset, seeds: keys::keyset_seeds, memory_per_byte: 64, cases: 300 },
    Parser {
        name: "public_key",
        run: keys::public_key,
        seeds: keys::public_key_seeds,
        memory_per_byte: 64,
        cases: 300,
    },
    Parser {
        name: "signature",
        run: keys::signature,
        seeds: keys::signature_seeds,
        memory_per_byte: 64,
        cases: 1_000,
    },
    Parser {
        name: "store_auth",
        run: keys::store_auth,
        seeds: keys::store_auth_seeds,
        memory_per_byte: 64,
        cases: 2_000,
    },
    Parser {
        name: "json_rpc",
        run: network::json_rpc,
        seeds: network::json_rpc_seeds,
        memory_per_byte: 400,
        cases: 5_000,
    },
    Parser {
        name: "answers",
        run: network::answers,
        seeds: network::answers_seeds,
        memory_per_byte: 400,
        cases: 5_000,
    },
    Parser {
        name: "rest_path",
        run: network::rest_path,
        seeds: network::rest_path_seeds,
        memory_per_byte: 64,
        cases: 3_000,
    },
    Parser {
        name: "chunked",
        run: network::chunked,
        seeds: network::chunked_seeds,
        memory_per_byte: 400,
        cases: 3_000,
    },
    Parser {
        name: "config",
        run: text::config,
        seeds: text::config_seeds,
        memory_per_byte: 1_000,
        cases: 2_000,
    },
    Parser {
        name: "committee",
        run: text::committee,
        seeds: text::committee_seeds,
        memory_per_byte: 1_000,
        cases: 300,
    },
    Parser {
        name: "shard",
        run: shards::shard,
        seeds: shards::shard_seeds,
        memory_per_byte: 64,
        cases: 2_000,
    },
    Parser {
        name: "url_list",
        run: text::url_list,
        seeds: text::url_list_seeds,
        memory_per_byte: 400,
        cases: 3_000,
    },
];

/// Runs the parser of that name.
///
/// # Panics
/// When there is none, or when a promise is broken.
pub fn run(name: &str, data: &[u8]) {
    let parser = PARSERS.iter().find(|parser| parser.name == name).expect("a parser of that name");
    (parser.run)(data);
}
