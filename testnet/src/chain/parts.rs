//! Where the dev chain's parts are, and the contracts' code.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::DevChainError;

/// Names the folder that `npm ci` was run in.
const DIR_VARIABLE: &str = "DAS_CHAIN_DIR";

/// The installed packages.
#[derive(Debug)]
pub(super) struct Parts {
    modules: PathBuf,
}

impl Parts {
    /// Looks in `DAS_CHAIN_DIR`, or where `scripts/test` puts it by default.
    pub(super) fn find() -> Result<Self, DevChainError> {
        Self::below(&std::env::var_os(DIR_VARIABLE).map_or_else(default_dir, PathBuf::from))
    }

    fn below(dir: &Path) -> Result<Self, DevChainError> {
        let parts = Self { modules: dir.join("node_modules") };
        for path in [parts.anvil(), parts.contracts()] {
            if !path.exists() {
                return Err(DevChainError::NotInstalled { path });
            }
        }
        Ok(parts)
    }

    pub(super) fn anvil(&self) -> PathBuf {
        self.modules.join("@foundry-rs/anvil-linux-amd64/bin/anvil")
    }

    fn contracts(&self) -> PathBuf {
        self.modules.join("@arbitrum/nitro-contracts")
    }

    /// Reads the blobs of a transaction; the inbox wants it on every chain that is not Arbitrum's.
    pub(super) fn reader4844(&self) -> Result<Vec<u8>, DevChainError> {
        let path = self.contracts().join("out/yul/Reader4844.yul/Reader4844.json");
        bytecode(&path, "/bytecode/object")
    }

    /// Stands for the rollup: it has an owner, which is all that the bridge and the inbox ask of it here.
    pub(super) fn rollup_mock(&self) -> Result<Vec<u8>, DevChainError> {
        self.built("src/test-helpers/RollupMock.sol/RollupMock.json")
    }

    pub(super) fn bridge(&self) -> Result<Vec<u8>, DevChainError> {
        self.built("src/bridge/Bridge.sol/Bridge.json")
    }

    pub(super) fn sequencer_inbox(&self) -> Result<Vec<u8>, DevChainError> {
        self.built("src/bridge/SequencerInbox.sol/SequencerInbox.json")
    }

    pub(super) fn proxy(&self) -> Result<Vec<u8>, DevChainError> {
        self.built("@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol/ERC1967Proxy.json")
    }

    fn built(&self, name: &str) -> Result<Vec<u8>, DevChainError> {
        bytecode(&self.contracts().join("build/contracts").join(name), "/bytecode")
    }
}

fn default_dir() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    cache.join("das/chain")
}

fn bytecode(path: &Path, pointer: &str) -> Result<Vec<u8>, DevChainError> {
    let text = std::fs::read(path).map_err(|_| DevChainError::NotInstalled { path: path.to_owned() })?;
    let artifact: Option<Value> = serde_json::from_slice(&text).ok();
    artifact
        .and_then(|artifact| const_hex::decode(artifact.pointer(pointer)?.as_str()?).ok())
        .filter(|code| !code.is_empty())
        .ok_or_else(|| DevChainError::Artifact { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_installs_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = Parts::below(dir.path()).unwrap_err().to_string();
        assert!(error.contains("scripts/test installs it") && error.contains("bin/anvil"), "{error}");
    }
}
