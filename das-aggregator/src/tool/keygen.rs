//! `keygen`: a BLS key pair for a member, or an ECDSA one for whoever signs store requests.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use das_common::bls::{SecretKey, write_key_files};
use das_common::store_auth::StoreKey;
use serde_json::json;

use super::args;
use super::output::{Answer, hex};

das_common::options! {
    /// Options of `keygen`.
    pub(crate) struct Options {
        ["Options"]
        /// Directory for the key files; it is made if it is missing.
        dir: PathBuf,
        /// Make an ECDSA key (ecdsa, ecdsa.pub) instead of a BLS key (das_bls, das_bls.pub).
        ecdsa: bool = "false",
        /// Nitro's encrypted wallet; not made here.
        wallet: bool = "false",
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "keygen",
    "Makes a key pair in --dir, readable by its owner only. Keys that are there already are never overwritten."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=0, |options: Options, _| {
        if options.wallet {
            bail!(
                "--wallet: encrypted wallets are not made here; for a BLS key, dastool key-make makes a keystore"
            );
        }
        if options.dir.as_os_str().is_empty() {
            bail!("--dir must say where the keys go");
        }
        let (secret, public, public_key) =
            if options.ecdsa { ecdsa(&options.dir)? } else { bls(&options.dir)? };
        let json = json!({ "secretKeyFile": secret, "publicKeyFile": public, "publicKey": public_key });
        let mut answer = Answer::new(options.json, "", &json)?;
        answer.aside = format!("wrote {} (keep it secret) and {}\n", secret.display(), public.display());
        Ok(answer)
    })
}

fn bls(dir: &Path) -> anyhow::Result<(PathBuf, PathBuf, String)> {
    let key = SecretKey::generate();
    write_key_files(dir, &key)?;
    let public = base64_simd::STANDARD.encode_to_string(key.public_key().to_bytes());
    Ok((dir.join("das_bls"), dir.join("das_bls.pub"), public))
}

fn ecdsa(dir: &Path) -> anyhow::Result<(PathBuf, PathBuf, String)> {
    let key = StoreKey::generate();
    let public = hex(&key.public_key());
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).with_context(|| format!("making {}", dir.display()))?;
    let (secret_path, public_path) = (dir.join("ecdsa"), dir.join("ecdsa.pub"));
    if public_path.exists() {
        bail!("{} is there already; move it away first", public_path.display());
    }
    write_new(&secret_path, key.to_hex().as_bytes())?;
    write_new(&public_path, public.trim_start_matches("0x").as_bytes())?;
    Ok((secret_path, public_path, public))
}

/// Writes a file that must not exist, synced: a key that signed something must not vanish.
pub(super) fn write_new(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; move it away first", path.display())
        }
        other => other.with_context(|| format!("making {}", path.display()))?,
    };
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", path.display()))
}
