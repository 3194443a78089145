//! The parent chain's contract `SequencerInbox`, as far as a committee needs it (spec section 9), and what is sent to it.

use alloy_primitives::Bytes;
use alloy_sol_types::{SolCall, sol};

use das_common::data_hash::DataHash;
use das_common::keyset::Keyset;

sol! {
    /// Where batches and keysets are published.
    #[derive(Debug)]
    interface SequencerInbox {
        /// Whether the address may post batches.
        function isBatchPoster(address poster) external view returns (bool);
        /// Whether the address is the sequencer.
        function isSequencer(address sequencer) external view returns (bool);
        /// Whether batches may name this keyset now.
        function isValidKeysetHash(bytes32 keyset) external view returns (bool);
        /// The block of the keyset's last `SetValidKeyset`; reverts for a keyset that never was valid.
        function getKeysetCreationBlock(bytes32 ksHash) external view returns (uint256);
        /// Batches posted.
        function batchCount() external view returns (uint256);

        /// How far from its block a batch's messages may be.
        function maxTimeVariation()
            external
            view
            returns (uint256 delayBlocks, uint256 futureBlocks, uint256 delaySeconds, uint256 futureSeconds);

        /// Of the owner.
        function setValidKeyset(bytes calldata keysetBytes) external;
        /// Of the owner.
        function invalidateKeysetHash(bytes32 keyset) external;
        /// Of the owner or the batch poster manager.
        function setIsBatchPoster(address poster, bool allowed) external;
        /// Of the owner or the batch poster manager.
        function setIsSequencer(address sequencer, bool allowed) external;
        /// Of a batch poster that is no contract.
        function addSequencerL2BatchFromOrigin(
            uint256 sequenceNumber,
            bytes calldata data,
            uint256 afterDelayedMessagesRead,
            address gasRefunder,
            uint256 prevMessageCount,
            uint256 newMessageCount
        ) external;

        /// A message of the parent chain whose delay is proved.
        struct DelayedMessage {
            uint8 kind;
            address sender;
            uint64 blockNumber;
            uint64 timestamp;
            uint256 inboxSeqNum;
            uint256 baseFeeL1;
            bytes32 messageDataHash;
        }
        /// The proof of a delay.
        struct DelayProof {
            bytes32 beforeDelayedAcc;
            DelayedMessage delayedMessage;
        }
        /// The same where the contract buffers delays.
        function addSequencerL2BatchFromOriginDelayProof(
            uint256 sequenceNumber,
            bytes calldata data,
            uint256 afterDelayedMessagesRead,
            address gasRefunder,
            uint256 prevMessageCount,
            uint256 newMessageCount,
            DelayProof calldata delayProof
        ) external;

        /// The times and blocks that the batch's messages may name.
        struct TimeBounds {
            uint64 minTimestamp;
            uint64 maxTimestamp;
            uint64 minBlockNumber;
            uint64 maxBlockNumber;
        }

        /// A keyset became valid.
        event SetValidKeyset(bytes32 indexed keysetHash, bytes keysetBytes);
        /// A keyset is no longer valid.
        event InvalidateKeyset(bytes32 indexed keysetHash);
        /// An address may post batches, or no longer.
        event BatchPosterSet(address batchPoster, bool isBatchPoster);
        /// An address is a sequencer, or no longer.
        event SequencerSet(address addr, bool isSequencer);
        /// A batch was posted; `dataLocation` says where its data is.
        event SequencerBatchDelivered(
            uint256 indexed batchSequenceNumber,
            bytes32 indexed beforeAcc,
            bytes32 indexed afterAcc,
            bytes32 delayedAcc,
            uint256 afterDelayedMessagesRead,
            TimeBounds timeBounds,
            uint8 dataLocation
        );
        /// The data of a batch that is not in its transaction.
        event SequencerBatchData(uint256 indexed batchSequenceNumber, bytes data);

        /// No such keyset is, or ever was, valid.
        error NoSuchKeyset(bytes32 keysetHash);
    }
}

/// What the owner sends to the contract to make a keyset valid.
pub fn set_keyset_calldata(keyset: &Keyset) -> Bytes {
    SequencerInbox::setValidKeysetCall { keysetBytes: keyset.to_bytes().into() }.abi_encode().into()
}

/// What the owner sends to the contract to make a keyset invalid.
pub fn invalidate_keyset_calldata(hash: DataHash) -> Bytes {
    SequencerInbox::invalidateKeysetHashCall { keyset: (*hash.as_bytes()).into() }.abi_encode().into()
}
