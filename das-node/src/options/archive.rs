//! Options of the archive and of the shared cache: Nitro's, and ours.

use std::time::Duration;

use das_common::config::{ByteSize, Problem, Secret};
use das_common::options;

use super::NodeOptions;
use super::check::problem;

options! {
    /// Batches on S3 and what speaks its language.
    pub struct S3StorageOptions {
        /// Keep every batch in a bucket of S3, or of a server that speaks its language, too: the archive (archive.*).
        enable: bool = "false",
        /// Access key id; empty: as AWS_ACCESS_KEY_ID says, or the machine's role.
        access_key: String,
        /// Name of the bucket.
        bucket: String,
        /// Delete objects once their batches have expired here. Only where nobody else writes under the same prefix.
        discard_after_timeout: bool = "false",
        /// URL of the server; empty: Amazon's of that region.
        endpoint: String,
        /// What names of objects begin with; the rest is the data hash, 64 hex digits.
        object_prefix: String,
        /// Region of the bucket; empty: as AWS_REGION says.
        region: String,
        /// Secret access key, with access-key.
        secret_key: Secret,
    }
}

options! {
    /// Batches on Google Cloud Storage.
    pub struct GoogleCloudStorageOptions {
        /// Keep every batch in a bucket of Google Cloud Storage too: the archive (archive.*).
        enable: bool = "false",
        /// Credentials of a service account, the JSON itself; empty, and no file: the machine's own.
        access_token: Secret,
        /// File with the credentials of a service account.
        access_token_file: String,
        /// Name of the bucket.
        bucket: String,
        /// Delete objects once their batches have expired here. Only where nobody else writes under the same prefix.
        discard_after_timeout: bool = "false",
        /// What names of objects begin with; the rest is the data hash, 64 hex digits.
        object_prefix: String,
    }
}

options! {
    /// A cache that several servers share.
    pub struct RedisCacheOptions {
        /// Look for batches that are not on this disk in a Redis first, and put there what is stored and read.
        enable: bool = "false",
        /// How long an entry stays.
        expiration: Duration = "1h0m0s",
        /// Key that entries are authenticated with: 32 bytes in hex, the same for all who share the cache. What has no
        /// right tag is not looked at.
        key_config: Secret,
        /// URL of the Redis, as redis://:password@host:6379/0, or rediss:// for TLS.
        url: Secret,
        /// Longest time that a read waits for it.
        timeout: Duration = "250ms",
        /// Most memory for entries that are on their way to it; beyond, they are left out.
        max_pending_bytes: ByteSize = "64MiB",
    }
}

options! {
    /// Every batch in an object store too.
    pub struct ArchiveOptions {
        /// Object store by URL: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory, with
        /// the credentials that its provider's environment variables name (AWS_*, GOOGLE_*, AZURE_*). Instead of
        /// data-availability.s3-storage or .google-cloud-storage.
        url: String,
        /// A certificate is signed only when the batch is in the archive too. Off: stores never wait for the archive.
        required: bool = "false",
        /// Longest time that a store waits for the archive where required; then it fails. Keep it below the aggregator's
        /// time for a store.
        required_timeout: Duration = "4s",
        /// Only read from the archive, as a read node does that shares a member's bucket.
        read_only: bool = "false",
        /// Keep the payload of a batch on this disk for so long after it was stored, and then in the archive only, once
        /// it was read from there and found right. 0: on this disk until it expires.
        local_retention: Duration = "0s",
        /// Delete objects once their batches have expired here. Only where nobody else writes under the same prefix.
        discard_after_timeout: bool = "false",
        /// Longest time that a read waits for the archive.
        read_timeout: Duration = "10s",
        /// Longest time for one upload or deletion; then it is tried again.
        write_timeout: Duration = "1m0s",
        /// Most uploads at once.
        uploads_in_flight: usize = "8",
        /// An archive that cannot be reached, or whose queue has not been worked off, for so long is an alarm.
        alarm_after: Duration = "5m0s",
        /// Take this archive for the one that holds what is not on this disk any more, although the options name another
        /// one than before. For one start, after the objects were copied.
        accept_move: bool = "false",
    }
}

/// The ways to name an archive that are given.
pub(super) fn given(options: &NodeOptions) -> Vec<&'static str> {
    let ways = [
        ("data-availability.s3-storage.enable", options.data_availability.s3_storage.enable),
        (
            "data-availability.google-cloud-storage.enable",
            options.data_availability.google_cloud_storage.enable,
        ),
        ("archive.url", !options.archive.url.is_empty()),
    ];
    ways.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect()
}

impl NodeOptions {
    /// Is there an archive?
    pub fn has_archive(&self) -> bool {
        !given(self).is_empty()
    }

    /// Are objects deleted when their batches expire?
    pub fn discards_after_timeout(&self) -> bool {
        let data = &self.data_availability;
        self.archive.discard_after_timeout
            || (data.s3_storage.enable && data.s3_storage.discard_after_timeout)
            || (data.google_cloud_storage.enable && data.google_cloud_storage.discard_after_timeout)
    }

    /// A node without a disk of its own, that reads from an archive.
    pub fn is_read_node(&self) -> bool {
        !self.data_availability.local_file_storage.enable
    }
}

pub(super) fn check(options: &NodeOptions, found: &mut Vec<Problem>) {
    let data = &options.data_availability;
    let given = given(options);
    if let [_, second, ..] = given[..] {
        let text = format!("{} is given too", given[0]);
        found.push(problem(second, text, "name one object store; several members may have different ones"));
    }
    if data.s3_storage.enable {
        if data.s3_storage.bucket.is_empty() {
            found.push(problem(
                "data-availability.s3-storage.bucket",
                "the archive is enabled and has no bucket",
                "give the name of a bucket",
            ));
        }
        if data.s3_storage.access_key.is_empty() != data.s3_storage.secret_key.is_empty() {
            found.push(problem(
                "data-availability.s3-storage.access-key",
                "it is given without .secret-key, or the other way round",
                "give both, or none of them to use the environment or the machine's role",
            ));
        }
    }
    if data.google_cloud_storage.enable && data.google_cloud_storage.bucket.is_empty() {
        found.push(problem(
            "data-availability.google-cloud-storage.bucket",
            "the archive is enabled and has no bucket",
            "give the name of a bucket",
        ));
    }
    for (name, prefix) in [
        ("data-availability.s3-storage.object-prefix", &data.s3_storage.object_prefix),
        ("data-availability.google-cloud-storage.object-prefix", &data.google_cloud_storage.object_prefix),
    ] {
        if prefix.starts_with('/') || prefix.contains("//") {
            found.push(problem(
                name,
                format!("{prefix:?} begins with a slash or has two in a row"),
                "give a prefix such as das/ or das-",
            ));
        }
    }
    uses(options, !given.is_empty(), found);
    cache(&data.redis_cache, found);
}

/// What the archive is used for.
fn uses(options: &NodeOptions, has_archive: bool, found: &mut Vec<Problem>) {
    let archive = &options.archive;
    let of_writers = [
        ("archive.required", archive.required),
        ("archive.local-retention", !archive.local_retention.is_zero()),
        ("archive.discard-after-timeout", archive.discard_after_timeout),
    ];
    for (name, on) in of_writers {
        if on && !has_archive {
            found.push(problem(
                name,
                "there is no archive",
                "give --archive.url or enable one of Nitro's storages",
            ));
        } else if on && archive.read_only {
            found.push(problem(
                name,
                "the archive is only read (archive.read-only)",
                "leave out one of both",
            ));
        }
    }
    if !archive.local_retention.is_zero()
        && !options.committee.file.as_os_str().is_empty()
        && !options.custody.whole_only
    {
        found.push(problem(
            "archive.local-retention",
            "with a committee file, what is cold is kept as shards on this disk, and peers ask for them",
            "leave it out, or give --custody.whole-only",
        ));
    }
    for (name, zero) in [
        ("archive.uploads-in-flight", archive.uploads_in_flight == 0),
        ("archive.read-timeout", archive.read_timeout.is_zero()),
        ("archive.write-timeout", archive.write_timeout.is_zero()),
        ("archive.required-timeout", archive.required_timeout.is_zero()),
    ] {
        if zero {
            found.push(problem(
                name,
                "it is 0, and nothing would ever be done",
                "leave it out, or give more",
            ));
        }
    }
}

fn cache(cache: &RedisCacheOptions, found: &mut Vec<Problem>) {
    if !cache.enable {
        return;
    }
    if cache.url.is_empty() {
        found.push(problem(
            "data-availability.redis-cache.url",
            "the shared cache is enabled and has no address",
            "give its URL, such as redis://127.0.0.1:6379",
        ));
    }
    if parse_key(cache.key_config.expose()).is_none() {
        found.push(problem(
            "data-availability.redis-cache.key-config",
            "it is no key",
            "give 32 bytes in hex: 64 digits, with or without 0x; all who share the cache have the same",
        ));
    }
    if cache.timeout.is_zero() {
        found.push(problem("data-availability.redis-cache.timeout", "it is 0", "leave it out, or give more"));
    }
}

/// The key of the shared cache.
pub(crate) fn parse_key(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut key = [0; 32];
    const_hex::decode_to_slice(digits, &mut key).ok().map(|()| key)
}
