//! The list itself.

use super::Fault;

faults! {
    ["Configuration"]
    CONFIG_UNKNOWN = "DAS-CONFIG-001": "an option is not known";
    cause: "its name is misspelt, or it belongs to another program or version";
    cure: "use the name that the message suggests, or take the option out; --help lists all";

    CONFIG_VALUE = "DAS-CONFIG-002": "the value of an option is wrong";
    cause: "it is not of the option's type, or outside its bounds";
    cure: "give a value as the message says, in the source it names";

    CONFIG_COMBINATION = "DAS-CONFIG-003": "options do not work together, or one is missing";
    cause: "each is right on its own, but the server cannot do what they say together";
    cure: "change the option that the message names";

    CONFIG_FILE = "DAS-CONFIG-004": "a configuration file cannot be used";
    cause: "it is missing, not readable, too long, or not a JSON object";
    cure: "check the path, its mode and the place in the file that the message names";

    CONFIG_COMMITTEE = "DAS-CONFIG-005": "the committee file cannot be used";
    cause: "it does not parse, repeats a member, has a key that proves nothing, or numbers outside 1 <= k <= H <= n <= 64";
    cure: "correct the entry that the message names; dastool committee checks a file";

    CONFIG_QUORUM = "DAS-CONFIG-006": "assumed-honest does not agree with the committee file";
    cause: "data-availability.rpc-aggregator.assumed-honest is not the A that follows from the file's H and k";
    cure: "leave the option out: the committee file says all of it; dastool committee prints A";

    ["Keys"]
    KEY_MISSING = "DAS-KEY-001": "a key file is missing or cannot be read";
    cause: "the directory or file given does not hold the key, or its owner is another user";
    cure: "check data-availability.key.key-dir and the owner of the files; dastool keygen makes new ones";

    KEY_MALFORMED = "DAS-KEY-002": "a key cannot be read";
    cause: "it is not base64 or hex, empty, or zero";
    cure: "restore the file from its backup; a new key means a new keyset for the committee";

    KEY_MISMATCH = "DAS-KEY-003": "public and secret key do not belong together";
    cause: "das_bls and das_bls.pub are of different pairs";
    cure: "restore both files from one backup; the public key must be the one in the committee's keyset";

    KEY_MODE = "DAS-KEY-004": "a secret key file can be read by others";
    cause: "its mode gives rights to the group or to everybody";
    cure: "chmod 600 the file; if others had access to the machine, make a new key";

    KEY_NOT_MEMBER = "DAS-KEY-005": "the key is not that of a member of the committee file";
    cause: "the committee file is of another committee, or this member's key was changed";
    cure: "compare das_bls.pub with the committee file";

    KEY_PASSWORD = "DAS-KEY-006": "the password does not open the keystore";
    cause: "it is another keystore's, or has white space or a line end too many, or the keystore is damaged";
    cure: "check the password's file or environment variable against the keystore; only one line end after it is left out";

    SIGNER_SETTINGS = "DAS-KEY-007": "the remote signer's options cannot be used";
    cause: "its URL is not https, or a file of certificates or keys cannot be read or does not fit";
    cure: "correct the URL or the file that the message names; certificates and keys are in PEM";

    SIGNER_AWAY = "DAS-KEY-008": "the remote signer does not sign";
    cause: "it cannot be reached, does not accept our certificate, or refuses the transaction; the message gives its words";
    cure: "see whether it runs, trusts the client certificate, holds the account's key, and has rules that forbid this";

    SIGNER_WRONG = "DAS-KEY-009": "the remote signer answered with something else than the transaction it was asked to sign";
    cause: "it is misconfigured, broken or hostile; the message names the field that differs; nothing was sent";
    cure: "compare the account with the signer's; if it changes transactions, stop it and find out who runs it";

    KEY_SIGNER_AWAY = "DAS-KEY-010": "the signer of this member's key does not answer";
    cause: "das-signer is down, cannot be reached, has too much to do, or does not accept our certificate; the message gives the reason";
    cure: "see whether das-signer runs and is reached from here; what was stored is on disk, and the caller may ask again";

    KEY_SIGNER_REFUSED = "DAS-KEY-011": "the signer of this member's key refuses to sign";
    cause: "it does not allow our certificate's name, or a limit of its options forbids what is asked; the message gives its words";
    cure: "compare the limits of das-signer with this member's max-retention, and its list of clients with our certificate";

    KEY_SIGNER_WRONG = "DAS-KEY-012": "the signer answered with something that this member's key did not sign";
    cause: "it holds another key, is broken or hostile; nothing of its answer was used";
    cure: "compare the public key of das-signer with data-availability.key.signer.public-key-file";

    KMS_AWAY = "DAS-KEY-013": "the key management service does not answer";
    cause: "it is down, cannot be reached, or there are no credentials to ask it with; the message gives the reason";
    cure: "check network, region, endpoint and credentials of the service, then start again";

    KMS_REFUSED = "DAS-KEY-014": "the key management service does not decrypt the envelope";
    cause: "the credentials may not use its key, the key is disabled, or the envelope was changed or made for another key";
    cure: "DisabledException: EnableKey; KMSInvalidStateException: CancelKeyDeletion and EnableKey; NotFoundException: check region \
           and endpoint; AccessDenied: give the credentials kms:Decrypt for this key; else restore the envelope from its backup";

    AUDIT_DAMAGED = "DAS-KEY-015": "the audit log of the signer is damaged, or of another key";
    cause: "a record before the last one was changed or cut, or another signer wrote to the file";
    cure: "keep the file and find out who touched it (dastool audit-log verify); name a new file to go on signing";

    AUDIT_WRITE = "DAS-KEY-016": "the audit log of the signer cannot be written";
    cause: "its disk is full or broken, or another process holds the file; nothing is signed without a record";
    cure: "make room or repair the disk, see who holds the file, and start das-signer again";

    SIGNER_BUSY = "DAS-KEY-017": "the signer has been asked for more signatures than its limits allow";
    cause: "a client asks faster than rate-limit.per-second, or too many requests wait at once";
    cure: "wait; raise rate-limit.per-second if the member really stores so many batches";

    SIGNER_TIMEOUT = "DAS-KEY-018": "a signature is asked for a time beyond the signer's limit";
    cause: "the timeout of the certificate word is further ahead than max-retention of das-signer";
    cure: "give das-signer at least the member's max-retention, or ask for a shorter time";

    SIGNER_CLIENT = "DAS-KEY-019": "this client may not have anything signed";
    cause: "no name of its certificate is in allowed-clients of das-signer";
    cure: "add a DNS name of the client's certificate to allowed-clients, or give the client the right certificate";

    SIGNER_REQUEST = "DAS-KEY-020": "what is to be signed is not well-formed";
    cause: "the request is no JSON of a known form, or no certificate word, binding or proof of possession that could be in force";
    cure: "use the same version of das-node and das-signer; whoever else asks is to be found out";

    KEY_PASSWORD_MISSING = "DAS-KEY-021": "there is no password for a keystore";
    cause: "its file or environment variable is missing or cannot be read, or there is no terminal to ask at";
    cure: "give the keystore's password by one of its password options, in a file that this user may read";

    STORAGE_KEY_MISSING = "DAS-KEY-022": "batches on this disk are encrypted with a storage key that was not given";
    cause: "the key was changed before everything was written anew under the new one, or encryption was switched off with no former key";
    cure: "give the key of the id that the message names in storage-encryption.former-keys until /status says that nothing is left under it";

    STORAGE_KEY_MALFORMED = "DAS-KEY-023": "a storage key cannot be read";
    cause: "the file holds no 32 bytes in hex or base64, no keystore or envelope of a storage key, or another key than its id says";
    cure: "restore the file from its backup; dastool storage-key-check shows the id of a key; BLS keys are no storage keys";

    ["Network"]
    NET_BIND = "DAS-NET-001": "an address cannot be listened on";
    cause: "another process uses the port, or the address is not of this machine";
    cure: "choose another port or address, or end the other process";

    NET_OVERLOADED = "DAS-NET-002": "more is being asked at once than the limits allow";
    cause: "the memory for requests or the number of connections is used up";
    cure: "try again later; raise limits.max-request-memory if the machine has room";

    NET_SHUTTING_DOWN = "DAS-NET-003": "the server is shutting down";
    cause: "it was told to stop and finishes what it has begun";
    cure: "try again when it is back";

    ["TLS"]
    TLS_FILES = "DAS-TLS-001": "files of certificates and keys cannot be used";
    cause: "one is missing, cannot be read or is no PEM, or certificate and key do not belong together";
    cure: "correct the file that the message names; openssl x509 and openssl pkey show what is in it";

    TLS_NOT_IN_FORCE = "DAS-TLS-002": "a certificate is not in force";
    cause: "it has expired, is not in force yet, or the clock of this machine is wrong";
    cure: "replace the certificate, or set the clock";

    TLS_KEPT = "DAS-TLS-003": "replaced files of certificates and keys cannot be used";
    cause: "a file is half written, of another key, expired or no PEM; what was read before stays in use, until the next start";
    cure: "put a certificate and the key that belongs to it in place, each with one rename; they are taken by themselves";

    TLS_ENDS = "DAS-TLS-004": "the server's certificate ends soon";
    cause: "it ends within 14 days and was not renewed";
    cure: "replace the files; they are taken by themselves";

    TLS_REFUSED = "DAS-TLS-005": "there is no TLS connection";
    cause: "one side does not accept the other's certificate or version; the message says which";
    cure: "see docs/tls.md for what each side wants: authority, name, time in force, client certificate";

    TLS_CLIENT = "DAS-TLS-006": "a client's certificate has no allowed name";
    cause: "it is of the right authority, and none of its DNS names is in tls.rpc.allowed-clients";
    cure: "add one of its names to tls.rpc.allowed-clients, or give the client the right certificate";

    TLS_WANTED = "DAS-TLS-007": "TLS is required and a URL has none";
    cause: "require-tls is given, and a URL that is called begins with http://";
    cure: "give https URLs, or take out require-tls";

    TLS_CLIENT_KEPT = "DAS-TLS-008": "replaced files of certificates and keys for calls to other servers cannot be used";
    cause: "a file is half written, of another key, expired or no PEM; what was read before stays in use, until the next start";
    cure: "put a certificate and the key that belongs to it in place, each with one rename; they are taken by themselves";

    ["Stores"]
    STORE_NOT_SIGNED = "DAS-STORE-001": "request not properly signed";
    cause: "its signature is malformed, of another request, or of a signer who may not store";
    cure: "sign with the key of a batch poster; name its address in data-availability.allowed-signers";

    STORE_NO_METHOD = "DAS-STORE-002": "no signature verification method configured";
    cause: "the member knows nobody who may store";
    cure: "name the signers with data-availability.allowed-signers or data-availability.extra-signature-checking-public-key";

    STORE_TIMEOUT = "DAS-STORE-003": "the timeout asked for is too far away";
    cause: "it is after now + data-availability.local-file-storage.max-retention, or above 2^63 - 1";
    cure: "ask for an earlier timeout, or raise the option if the disk can hold that much";

    STORE_TOO_LARGE = "DAS-STORE-004": "the batch is larger than allowed";
    cause: "it is above the limit for one batch or one request body";
    cure: "make smaller batches, or raise the limit at the aggregator and at every member";

    STORE_DISK_FULL = "DAS-STORE-005": "the disk has too little free space, stores are refused";
    cause: "less is free than data-availability.local-file-storage.min-free";
    cure: "make room or enlarge the disk; reads and deletions go on, and stores begin again by themselves";

    STORE_WRITE = "DAS-STORE-006": "a batch could not be written";
    cause: "the disk or the file system reported an error";
    cure: "look at the system's log for disk errors; nothing was signed";

    STORE_SIGN = "DAS-STORE-007": "a batch could not be signed";
    cause: "the key is not available";
    cure: "check the key options; the batch itself is stored";

    ["Chunked stores"]
    CHUNK_STALE = "DAS-CHUNK-001": "too much time has elapsed since request was signed";
    cause: "the request's time is more than 5 minutes from this server's clock";
    cure: "set both clocks by NTP";

    CHUNK_REPLAY = "DAS-CHUNK-002": "a chunked store was begun with a signature seen before";
    cause: "the request was sent twice, or two batches of one size were begun in one second";
    cure: "sign again with a new time";

    CHUNK_SIZES = "DAS-CHUNK-003": "the sizes of a chunked store do not fit together";
    cause: "one is zero, or the number and size of chunks do not make the total size";
    cure: "correct the client; every chunk but the last has the size announced";

    CHUNK_PENDING = "DAS-CHUNK-004": "too many chunked stores are pending";
    cause: "limits.max-pending-messages or limits.max-pending-bytes is reached";
    cure: "try again in a minute, or send batches in one piece; raise the limits if memory allows";

    CHUNK_UNKNOWN = "DAS-CHUNK-005": "there is no such chunked store";
    cause: "it was finished, dropped after an error, or idle for limits.pending-idle-timeout";
    cure: "begin again";

    CHUNK_MISFIT = "DAS-CHUNK-006": "a chunk does not fit";
    cause: "its number or its length is not as announced";
    cure: "correct the client";

    CHUNK_CONFLICT = "DAS-CHUNK-007": "a chunk came twice with different bytes";
    cause: "the client mixed up two batches, or something on the way changes requests";
    cure: "begin again; if it happens again, look at what stands between client and server";

    CHUNK_INCOMPLETE = "DAS-CHUNK-008": "a chunked store was committed before all chunks arrived";
    cause: "a chunk was lost, or commit overtook it";
    cure: "begin again; commit when every chunk was answered";

    ["Reads"]
    READ_NOT_FOUND = "DAS-READ-001": "there is no batch of that hash";
    cause: "it was never stored here, or its timeout has passed, and no other server has it";
    cure: "ask another member; if it should be here, run dastool doctor";

    READ_CORRUPT = "DAS-READ-002": "a stored batch no longer hashes to its name";
    cause: "the disk returned other bytes than were written";
    cure: "check the disk; store the batch again or read it from another member, either heals it";

    READ_FALLBACK = "DAS-READ-003": "no server to read from answered rightly";
    cause: "every endpoint failed, timed out, or sent bytes of another hash";
    cure: "look at the endpoints' states at /status, and at data-availability.rest-aggregator.urls";

    READ_ENDPOINT_LIES = "DAS-READ-004": "a server sent bytes that do not hash to what was asked";
    cause: "it is broken or hostile; its bytes were not used";
    cure: "take it out of the URLs and tell who runs it";

    READ_LIST = "DAS-READ-005": "the online list of servers cannot be fetched";
    cause: "its URL does not answer, or answers with something else";
    cure: "check data-availability.rest-aggregator.online-url-list; the servers known so far stay in use";

    ["Database"]
    DB_DIRECTORY = "DAS-DB-001": "the data directory cannot be used";
    cause: "it is missing, not a directory, or not readable and writable by this user";
    cure: "make it, or correct data-availability.local-file-storage.data-dir and its owner";

    DB_LOCKED = "DAS-DB-002": "the data directory is in use";
    cause: "another das-node runs on it";
    cure: "end the other one; a data directory belongs to one process";

    DB_CORRUPT = "DAS-DB-003": "the database is damaged";
    cause: "a file of it was changed, cut off or lost, or the disk is failing";
    cure: "check the disk; a damaged index is built anew when its folder is moved away, a damaged segment is left out when it is";

    DB_VERSION = "DAS-DB-004": "the database was written by a newer version";
    cause: "an older program was started on it";
    cure: "start the newer version; records are not converted back";

    DB_IO = "DAS-DB-005": "the disk reported an error";
    cause: "reading, writing or syncing failed";
    cure: "look at the system's log; a running server takes stores again once the disk does, in a new segment; what failed was not signed";

    DB_RECORD = "DAS-DB-006": "a record cannot be read";
    cause: "its bytes fail their checksum or are of no known form";
    cure: "the batch is read from elsewhere if it can be; check the disk";

    ["Expiry and clock"]
    CLOCK_JUMPED = "DAS-CLOCK-001": "the clock jumped, nothing is deleted";
    cause: "it is more than 1 h from what the time last noted allows";
    cure: "set the clock by NTP; if it is right, restart once with --data-availability.local-file-storage.accept-clock";

    EXPIRY_BEHIND = "DAS-CLOCK-002": "batches past their time are not being deleted";
    cause: "deleting fails or cannot keep up";
    cure: "look at the log for the reason; the disk fills meanwhile";

    ["Committee and aggregator"]
    QUORUM_MISSED = "DAS-QUORUM-001": "too few members signed";
    cause: "members did not answer in time or refused; the message names each with its reason";
    cure: "cure the members named; what was stored is kept by those that stored it, no certificate exists";

    QUORUM_THIN = "DAS-QUORUM-002": "so many members fail that one more stops the committee";
    cause: "members are down or refuse; see their states at /status";
    cure: "bring the members back; the next failure would end certificates";

    CANARY_MISSED = "DAS-CANARY-001": "the canary got no certificate";
    cause: "too few members signed the batch by which the aggregator tries them; the sequencer's next batch would fare alike";
    cure: "cure the members that the message names, before the next batch comes";

    CANARY_MEMBER = "DAS-CANARY-002": "a member failed the canary";
    cause: "it did not store, did not sign rightly, or did not give back the batch by which the aggregator tries it";
    cure: "tell who runs it what the message says; dastool doctor asks the member more";

    CANARY_THIN = "DAS-CANARY-003": "the committee is one failure away from having too few members";
    cause: "no more members stood the canary than a certificate needs";
    cure: "bring the members back that the alarm DAS-CANARY-002 names";

    MEMBER_DOWN = "DAS-MEMBER-001": "a member does not answer";
    cause: "it is down, unreachable, or slower than data-availability.request-timeout";
    cure: "tell who runs it; dastool doctor says what is wrong with it";

    MEMBER_REFUSES = "DAS-MEMBER-002": "a member refuses stores";
    cause: "it answers with an error, which the message gives";
    cure: "tell who runs it what it says; often it does not know the signer, or its disk is full";

    MEMBER_WRONG = "DAS-MEMBER-003": "a member's answer is wrong";
    cause: "its signature, data hash or timeout is not right under its key in the committee file; it did not count";
    cure: "compare its key with the committee file; if they agree, the member is broken or hostile";

    MEMBER_KEY = "DAS-MEMBER-005": "a member does not admit the aggregator's store key";
    cause: "what the aggregator stores in its own name (for Nitro nodes, for posting, in chunks) would be refused there";
    cure: "the member's operator names the key's address in data-availability.allowed-signers, or the rollup's owner makes it a batch poster of the contract";

    STORE_KEY_MISSING = "DAS-MEMBER-004": "there is no store key for a chunked store";
    cause: "what goes to members in chunks is signed by the aggregator, and it has no key";
    cure: "give data-availability.store-key.file and name its address at the members, or raise their body limits";

    ["Provider"]
    PROVIDER_TOKEN = "DAS-PROVIDER-001": "a caller showed no valid token";
    cause: "the two sides' secrets differ, or a clock is more than 60 s off";
    cure: "give both sides the same secret file, and set the clocks by NTP";

    PROVIDER_HOST = "DAS-PROVIDER-002": "invalid host specified";
    cause: "the Host header is a name that is not allowed";
    cure: "use the address, or name it in provider-server.allowed-hosts";

    PROVIDER_KEYSET = "DAS-PROVIDER-003": "a keyset is not known";
    cause: "it is none of this committee's, and the parent chain was not asked";
    cure: "give the committee file whose keyset it is";

    ["Custody"]
    CUSTODY_STOPPED = "DAS-CUSTODY-001": "custody stopped for an error of the disk";
    cause: "the index could not be read or written; nothing is demoted or repaired until it can be";
    cure: "see the message; free space or mend the disk, custody starts anew by itself";

    CUSTODY_SUSPECT = "DAS-CUSTODY-002": "so many members disagree with this one about a root that this one is to be suspected";
    cause: "this machine computes wrongly, or too many members lie; it demotes nothing";
    cure: "check this machine's memory and processor, and compare versions with the other members";

    CUSTODY_ROLLED_BACK = "DAS-CUSTODY-003": "the database is older than what the other members have seen of it";
    cause: "it was restored from a backup or a snapshot; it took a new storage id and states anew what it holds";
    cure: "nothing to do once it has caught up; do not restore a data directory over a newer one";

    CUSTODY_CLOCK = "DAS-CUSTODY-004": "the clock is off from the peers' clocks, or there are too few to compare it with";
    cause: "this machine's clock is wrong, or too many members are down; nothing is deleted until it is right";
    cure: "set the clock by NTP; bring the members back";

    CUSTODY_NO_ROOM = "DAS-CUSTODY-005": "batches that too few members hold cannot be made whole for want of room";
    cause: "the disk is full";
    cure: "give the disk more room, or bring the members back whose statements no longer count";

    CUSTODY_WRONG_ROOT = "DAS-CUSTODY-006": "a member stated another root than this one computed";
    cause: "it computes wrongly or lies; its statement does not count, and the evidence is kept";
    cure: "tell who runs it; dastool verify-evidence checks the bundle offline";

    CUSTODY_SAME_COUNTER = "DAS-CUSTODY-007": "a member used one counter for two lists";
    cause: "its database was copied or rolled back and it did not notice, or it lies";
    cure: "tell who runs it; two machines must never run with one member's keys";

    CUSTODY_OLD_STORAGE = "DAS-CUSTODY-008": "a member shows a storage id that had been replaced";
    cause: "an old data directory of it runs again; its statements do not count";
    cure: "tell who runs it to run the newer data directory, or to start with an empty one";

    CUSTODY_UNHELD = "DAS-CUSTODY-009": "a member states more batches that are not here than are remembered";
    cause: "this member missed very many stores, or that one invents batches";
    cure: "see whether this member is repaired; if not, tell who runs the other";

    CUSTODY_DISK_SHORT = "DAS-CUSTODY-010": "the disk would be full within 72 hours if demotion stopped";
    cause: "batches come fast for the space that is free above the reserve; members that are down stop demotion";
    cure: "add disk, or shorten custody.hot-retention; /custody shows how long the disk lasts";

    CUSTODY_CERTIFICATE = "DAS-CUSTODY-011": "a certificate is not kept";
    cause: "it does not verify under the keyset of a committee known here, or its timeout has passed or is too far ahead";
    cure: "give the member the committee file by which the certificate was made; else nothing is to be done";

    PEER_SILENT = "DAS-PEER-001": "a member has been silent for so long that its statements count no more";
    cause: "it is down or cannot be reached; batches that too few others hold are made whole again";
    cure: "tell who runs it, or check the network between the members";

    PEER_OTHER_CODING = "DAS-PEER-002": "a member codes by another committee file";
    cause: "honest-members, data-shards or the list of members differ between the files";
    cure: "give all members the same committee file; dastool committee prints its coding id";

    PEER_TOO_FEW = "DAS-PEER-003": "too few members of the committee file have a peer address";
    cause: "with data-shards above 1 members must reach each other, and members that are not ours (Nitro's) hold no shards";
    cure: "give the members peer addresses in the committee file, or custody.whole-only until they have them";

    PEER_KEY = "DAS-PEER-004": "the peer key cannot be used";
    cause: "its file cannot be read or written, or does not hold an Ed25519 key";
    cure: "check the file and its owner; without the file a new key is made, which the other members learn by themselves";

    ["Parent chain"]
    CHAIN_AWAY = "DAS-CHAIN-001": "no endpoint of the parent chain answers";
    cause: "all are down, too slow, or put aside for another chain id; the message names each with its reason";
    cure: "bring an endpoint back or name another; signers already known are accepted meanwhile, new ones are not";

    CHAIN_WRONG_ID = "DAS-CHAIN-002": "an endpoint is of another chain";
    cause: "its chain id is not the one configured; it is not asked for anything else";
    cure: "correct its URL or the chain id; it is looked at again by itself";

    CHAIN_URL = "DAS-CHAIN-003": "the URL of an endpoint of the parent chain cannot be used";
    cause: "it is no http or https URL with a host, or there is none at all";
    cure: "correct the URL whose place in the list the message gives";

    CHAIN_REFUSED = "DAS-CHAIN-004": "the parent chain's endpoints refuse a request";
    cause: "they do not serve this method, this block or this many logs; the message gives their words";
    cure: "use endpoints that serve logs and calls at old blocks as far back as this committee reads";

    CHAIN_ANSWER = "DAS-CHAIN-005": "an answer of the parent chain makes no sense";
    cause: "it is too large, is not JSON-RPC, or holds what was not asked for; or there is no such contract at the address";
    cure: "check the address of the contract and who runs the endpoint; another endpoint is asked if there is one";

    CHAIN_UNSETTLED = "DAS-CHAIN-006": "the parent chain changed again and again while it was read";
    cause: "endpoints behind one URL disagree about the newest blocks, or the chain is being reorganized";
    cure: "nothing if it passes, reading is repeated; otherwise use an endpoint that answers from one node";

    CHAIN_RESET = "DAS-CHAIN-007": "the parent chain is another than before";
    cause: "its genesis block differs, or its head is far below what was seen; a dev chain was started anew, or the endpoint is wrong";
    cure: "on a dev chain nothing: all is read anew; otherwise check the endpoints";

    CHAIN_POSITION = "DAS-CHAIN-008": "the noted position on the parent chain cannot be read";
    cause: "its record is damaged or of another version";
    cure: "remove the record, the chain is then read from its first block of interest; check the disk";

    CHAIN_SIGNER = "DAS-CHAIN-009": "whether this signer may store cannot be told now";
    cause: "it is not known yet and the parent chain cannot be asked, or too many unknown signers are being asked about";
    cure: "try again; if it lasts, see whether the endpoints of the parent chain answer";

    CHAIN_KEYSET_UNKNOWN = "DAS-CHAIN-010": "the parent chain knows no keyset of this hash";
    cause: "it was never made valid there, or in a block that is no longer on the chain";
    cure: "check the contract's address and the hash; the owner makes a keyset valid with setValidKeyset";

    CHAIN_KEYSET_FORM = "DAS-CHAIN-011": "a keyset on the parent chain does not parse";
    cause: "the owner made bytes valid that are no keyset, or one with a key that is no point or lacks its proof";
    cure: "make a right keyset valid; batches under this one are read by nobody";

    CHAIN_KEYSET_STORE = "DAS-CHAIN-012": "keysets cannot be kept on disk";
    cause: "the directory cannot be read or written";
    cure: "check the directory, its owner and the disk; keysets are read from the chain meanwhile";

    CHAIN_KEYSET_INVALID = "DAS-CHAIN-013": "the committee's keyset is not the valid one on the parent chain";
    cause: "the owner has not set it yet, has invalidated it, or the committee file differs from what was set";
    cure: "compare the hash with dastool committee; the owner sets the keyset with the calldata of dastool keyset-tx; --parent-chain.keyset-check = warn starts all the same";

    ["Posting"]
    POST_QUEUE = "DAS-POST-001": "the queue of batches to post cannot be used";
    cause: "its folder cannot be read or written, is damaged, belongs to another contract, or another process has it";
    cure: "see the message; nothing that was taken is lost as long as the folder is kept, so never delete it while batches wait";

    POST_FOREIGN_NONCE = "DAS-POST-002": "another process posts with this account";
    cause: "a nonce of a transaction under way was used by one that is not in the queue";
    cure: "end the other process; one account posts from one place only. Look at what it sent, then go on with --post.accept-nonces-below";

    POST_FOREIGN_BATCH = "DAS-POST-003": "another batch poster is at work";
    cause: "the number of a batch under way was taken by a batch that is not in the queue";
    cure: "end the other poster, or this one; one place decides the order of the batches. Go on with --post.accept-batches-below";

    POST_LOST = "DAS-POST-004": "the contract has fewer batches than it had for good";
    cause: "the chain was reset, or the endpoints are of another chain with the same id";
    cure: "check the endpoints; for a dev chain that was started anew give the aggregator an empty data folder";

    POST_KEYSET = "DAS-POST-005": "the contract does not take the committee's keyset";
    cause: "it was never set, or was invalidated; a batch that names it would be refused at our cost";
    cure: "the owner sets it with the calldata that dastool keyset-tx prints; posting goes on by itself";

    POST_FEES = "DAS-POST-006": "the parent chain is too expensive";
    cause: "its fee is above post.max-fee-gwei";
    cure: "wait, or raise the limit; batches stay in the queue, and their certificates are renewed when needed";

    POST_BALANCE = "DAS-POST-007": "the posting account runs out of funds";
    cause: "it has less than post.min-balance-ether";
    cure: "send it ether";

    POST_BALANCE_GONE = "DAS-POST-008": "the posting account cannot pay for a transaction";
    cause: "a node says that its funds are insufficient";
    cure: "send it ether; posting goes on by itself";

    POST_REVERT = "DAS-POST-009": "the contract refuses a batch";
    cause: "the message has the contract's error and what it means";
    cure: "see docs/rollup.md for each error; the batches behind it wait, in order";

    POST_REFUSED = "DAS-POST-010": "a node of the parent chain does not take a transaction";
    cause: "the message has its words";
    cure: "if it lasts, name another endpoint; the transaction is sent again by itself";

    POST_KEY = "DAS-POST-011": "a transaction cannot be signed";
    cause: "the remote signer does not answer, or answers with something else than what was asked for";
    cure: "see the message; bring the signer back, posting goes on by itself";

    POST_UNCERTIFIED = "DAS-POST-012": "the committee does not certify a batch";
    cause: "fewer members sign than are needed";
    cure: "see DAS-QUORUM alarms for who; it is tried again, and posted itself after post.fallback-after where post.fallback = calldata";

    POST_OPTIONS = "DAS-POST-013": "batches cannot be posted with these options";
    cause: "posting needs a parent chain, a contract, a data folder, the poster's key, a store key and named signers";
    cure: "give the option that the message names";

    ["Import and export"]
    IMPORT_UNVERIFIED = "DAS-IMPORT-001": "something to be moved does not verify";
    cause: "a file is damaged, cut short, or no batch; or a server sent other bytes than asked for. Each is listed with its path and reason, and left as it is";
    cure: "fetch the batches in question from another member: dastool import --rest, then look at the files that are listed";

    IMPORT_SOURCE = "DAS-IMPORT-002": "the source cannot be read";
    cause: "the directory is missing or unreadable, a list of hashes has a line that is none, or nothing was named";
    cure: "see the message; run it as a user who may read the directory, and again: what was moved is skipped";

    IMPORT_TARGET = "DAS-IMPORT-003": "the data directory cannot be reached";
    cause: "no das-node answers at its socket and none could be started for it: another user's, on another machine, or admin.socket is off";
    cure: "run dastool as the node's user on its machine; stop the node if its socket is off";

    IMPORT_BUSY = "DAS-IMPORT-004": "the socket of the data directory is busy or asked for something else";
    cause: "more is asked at once than it takes, or by another release of dastool";
    cure: "use the dastool of the same release as the node, and one at a time";

    ["Backup"]
    BACKUP_FAILED = "DAS-BACKUP-001": "a backup could not be made";
    cause: "its folder exists already or cannot be written by the node, the disk is full, or another backup is under way";
    cure: "see the message; the folder with .unfinished at its end can be deleted, the next backup does it";

    BACKUP_DAMAGED = "DAS-BACKUP-002": "a backup is not complete or not what was written";
    cause: "files are missing, cut short or changed since it was made";
    cure: "use another backup; batches that are listed as damaged come back from the other members";

    BACKUP_TARGET = "DAS-BACKUP-003": "there is a database already where the backup should go";
    cause: "restoring over a database would undo what this member promised since the backup";
    cure: "restore into an empty data directory; move the present one away first if it is lost";

    BACKUP_UNFINISHED = "DAS-BACKUP-004": "a restore into this data directory was begun and not finished";
    cause: "it was interrupted, so that not everything is there";
    cure: "run dastool restore again with the same backup";

    ["Archive"]
    ARCHIVE_UNREACHABLE = "DAS-ARCHIVE-001": "the archive cannot be reached";
    cause: "the object store, or the way to it, has failed for longer than archive.alarm-after";
    cure: "see the message; stores go on (unless archive.required), uploads wait on this disk and go on by themselves";

    ARCHIVE_REFUSED = "DAS-ARCHIVE-002": "the archive refuses us";
    cause: "wrong credentials, no right to this bucket, or no such bucket";
    cure: "check the options that the message names, and that the role may list, get, put and delete below the prefix";

    ARCHIVE_BEHIND = "DAS-ARCHIVE-003": "uploads to the archive are behind";
    cause: "it is away, or takes less than is stored; batches wait on this disk, where nothing is lost";
    cure: "see DAS-ARCHIVE-001 and 002; else raise archive.uploads-in-flight or look at the line to it";

    ARCHIVE_WRONG = "DAS-ARCHIVE-004": "the archive has other bytes than were brought there";
    cause: "somebody else writes under the same prefix, or the object store is damaged";
    cure: "find out who wrote there; what is still on this disk is uploaded again by itself, what is not is read from other servers";

    ARCHIVE_LOST = "DAS-ARCHIVE-005": "a batch that is only in the archive is not there";
    cause: "somebody or a lifecycle rule of the bucket deleted it before its time";
    cure: "bring the object back (versions of the bucket), or name other members in rest-aggregator.urls; a read that finds it ends the alarm";

    ARCHIVE_STORE = "DAS-ARCHIVE-006": "a batch was stored and not signed for, because the archive did not take it in time";
    cause: "archive.required is on, and the archive is away or slow";
    cure: "bring it back, or turn archive.required off";

    ARCHIVE_OPTIONS = "DAS-ARCHIVE-007": "there is no archive with these options";
    cause: "an option is wrong, or batches are in the archive that was named before, and only there";
    cure: "see the message; after all objects were copied to another place, --archive.accept-move takes it";

    ["Shared cache"]
    CACHE_UNREACHABLE = "DAS-CACHE-001": "the shared cache cannot be used";
    cause: "the Redis of data-availability.redis-cache.url is away, slow, or refuses the password";
    cure: "see the message; reads and stores go on without it, and it is used again by itself";

    CACHE_WRONG = "DAS-CACHE-002": "entries of the shared cache are not right";
    cause: "servers that share it have different keys (data-availability.redis-cache.key-config), or somebody tampers";
    cure: "give all the same key; otherwise find out who can write there; such entries are not used";

    ["Programs"]
    PROGRAM_PANIC = "DAS-PROGRAM-001": "a part of the program ended unexpectedly";
    cause: "a mistake in the program; the request it worked on failed";
    cure: "report it with the lines of the log around it";
}
