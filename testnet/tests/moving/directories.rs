//! Directories of Nitro's server, recorded and generated, taken in and written back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use das_common::data_hash::DataHash;
use das_common::nitro_layout::{NitroFile, by_expiry, by_hash};
use das_testnet::load::bodies::unix_now;
use das_testnet::nitro::{Generated, generate, store_flat, tree, write_recorded};
use das_testnet::promises::test_seed;
use das_testnet::vectors::load;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::member::{assert_gives, assert_serves, begin, dastool, export, folder, import, member, named};

const HEALTH_CHECK: &[u8] = b"Test Data";
/// Nitro's `max-retention` in the recorded cases with files of the older layout.
const RETENTION: &str = "876000h";
const RETENTION_SECONDS: u64 = 876_000 * 3600;

/// The batches of a directory with their latest expiry, by a reading of its own.
fn batches(root: &Path) -> BTreeMap<DataHash, (Vec<u8>, u64)> {
    let mut found: BTreeMap<DataHash, (Vec<u8>, u64)> = BTreeMap::new();
    for path in tree(root, false).unwrap().keys() {
        let full = root.join(path);
        let (hash, expiry) = match NitroFile::of_path(path) {
            Some(NitroFile::Expiry { hash, expiry }) => (hash, expiry),
            Some(NitroFile::OlderBatch(hash)) => {
                let modified = fs::metadata(&full).unwrap().modified().unwrap();
                let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
                (hash, since.as_secs() + RETENTION_SECONDS)
            }
            Some(NitroFile::Batch(_)) | None => continue,
        };
        let entry = found.entry(hash).or_insert_with(|| (fs::read(&full).unwrap(), expiry));
        entry.1 = entry.1.max(expiry);
    }
    found.remove(&DataHash::of(HEALTH_CHECK));
    found
}

#[test]
fn recorded_directories_are_served_byte_for_byte_and_written_back() {
    let vectors = load("on_disk.json");
    let mut recorded = 0;
    for case in vectors["cases"].as_array().unwrap() {
        for state in ["before", "after"] {
            let Some(list) = case.get(state) else { continue };
            let name = format!("{}, {state}", case["name"]);
            recorded += 1;
            let folder = folder();
            let at = |part: &str| folder.path().join(part);
            write_recorded(&at("nitro"), list).unwrap();
            let expected = batches(&at("nitro"));
            let source = tree(&at("nitro"), true).unwrap();

            let data = at("data");
            let said = import(&at("nitro"), &data, &["--retention", RETENTION]).good();
            let foreign: Vec<String> = named(&said["foreign"]);
            assert_eq!(foreign.len(), usize::from(at("nitro/README").exists()), "{name}: {said}");
            let again = import(&at("nitro"), &data, &["--retention", RETENTION]).good();
            assert_eq!(again["imported"], 0, "{name}: {again}");
            assert_eq!(tree(&at("nitro"), true).unwrap(), source, "{name}: it is left as it was");

            let server = member(&data, &[]);
            for (hash, (batch, _)) in &expected {
                assert_gives(&server.rest_url(), hash, batch);
            }
            drop(server);

            // Out as Nitro writes it: its batches, and of each the latest link.
            export(&data, &at("out"), &[]).good();
            let paths: BTreeSet<PathBuf> = tree(&at("out"), false)
                .unwrap()
                .into_iter()
                .filter(|(_, what)| what.starts_with("file"))
                .map(|(path, _)| path)
                .collect();
            let mut wanted: BTreeSet<PathBuf> = expected.keys().map(by_hash).collect();
            wanted.extend(expected.iter().map(|(hash, (_, expiry))| by_expiry(hash, *expiry)));
            assert_eq!(paths, wanted, "{name}");
            assert_eq!(batches(&at("out")), expected, "{name}");
            // In and out once more, in both layouts: nothing changes any more.
            import(&at("out"), &at("data-2"), &[]).good();
            export(&at("data-2"), &at("out-2"), &[]).good();
            assert_eq!(tree(&at("out"), false).unwrap(), tree(&at("out-2"), false).unwrap(), "{name}");
        }
    }
    assert!(recorded > 12, "{recorded}");
}

#[test]
fn the_older_layout_comes_back_as_it_was() {
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let now = unix_now();
    for number in 0..20_u64 {
        store_flat(&at("nitro"), &Generated::make(number, 1000 * number as usize), now - number * 1000)
            .unwrap();
    }
    import(&at("nitro"), &at("data"), &[]).good();
    let said = export(&at("data"), &at("out"), &["--layout", "flat"]).good();
    assert_eq!((said["exported"].as_u64(), said["present"].as_u64()), (Some(20), Some(0)));
    assert_eq!(tree(&at("nitro"), true).unwrap(), tree(&at("out"), true).unwrap());
    let said = export(&at("data"), &at("out"), &["--layout", "flat"]).good();
    assert_eq!((said["exported"].as_u64(), said["present"].as_u64()), (Some(0), Some(20)));
    // A damaged file there is written anew.
    let one = at("out").join(DataHash::of(&Generated::make(7, 7000)).to_string());
    fs::write(&one, Generated::make(8, 7000)).unwrap();
    assert_eq!(export(&at("data"), &at("out"), &["--layout", "flat"]).good()["exported"], 1);
    assert_eq!(tree(&at("nitro"), true).unwrap(), tree(&at("out"), true).unwrap());
}

#[test]
fn a_batch_named_by_its_keccak_hash_is_found_by_it() {
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    // The first byte must not be that of a node of the tree.
    let batches = [vec![7; 5000], vec![9; 200_000]];
    fs::create_dir(at("nitro")).unwrap();
    for batch in &batches {
        let flat = DataHash::from_bytes(das_common::data_hash::flat_hash(batch));
        fs::write(at("nitro").join(flat.to_string()), batch).unwrap();
    }
    assert_eq!(import(&at("nitro"), &at("data"), &[]).good()["imported"], 2);
    assert_eq!(import(&at("nitro"), &at("data"), &[]).good()["present"], 2);
    let server = member(&at("data"), &[]);
    for batch in &batches {
        assert_serves(&server.rest_url(), batch);
        let flat = DataHash::from_bytes(das_common::data_hash::flat_hash(batch));
        assert_gives(&server.rest_url(), &flat, batch);
    }
}

#[test]
fn what_does_not_verify_is_listed_left_alone_and_fetched_from_a_server_if_there_is_one() {
    let seed = test_seed();
    println!("seed {seed}");
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let all = generate(&at("nitro"), seed, 3_000_000, 1..=100_000, unix_now()).unwrap();
    assert!(all.len() > 20);
    let path = |batch: &Generated| at("nitro").join(by_hash(&batch.hash));
    let flipped = path(&all[0]);
    let mut bytes = all[0].bytes();
    bytes[0] ^= 1;
    fs::write(&flipped, &bytes).unwrap();
    let truncated = path(&all[1]);
    fs::write(&truncated, &all[1].bytes()[1..]).unwrap();
    let wrongly_named = at("nitro").join(DataHash::of(b"another").to_string());
    fs::write(&wrongly_named, all[2].bytes()).unwrap();
    let misplaced = at("nitro/by-data-hash/ab").join(all[3].hash.to_string());
    fs::create_dir_all(misplaced.parent().unwrap()).unwrap();
    fs::write(&misplaced, all[3].bytes()).unwrap();
    let unfinished = path(&all[4]).with_extension("tmp123");
    fs::write(&unfinished, b"the beginning of").unwrap();
    let foreign = at("nitro/by-data-hash/notes.txt");
    fs::write(&foreign, b"not a batch").unwrap();
    let link = path(&all[5]).with_file_name(DataHash::of(b"a link").to_string());
    std::os::unix::fs::symlink(path(&all[5]), &link).unwrap();
    let folder_of_others = at("nitro/lost+found");
    fs::create_dir(&folder_of_others).unwrap();
    let source = tree(&at("nitro"), true).unwrap();

    let said = import(&at("nitro"), &at("data"), &["--parallel", "3"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.json["code"], "DAS-IMPORT-001");
    let unverified: BTreeSet<String> = named(&said.json["unverified"]).into_iter().collect();
    // Damaged ones are met by their link first.
    let linked = |batch: &Generated| at("nitro").join(by_expiry(&batch.hash, batch.expiry));
    let bad = [linked(&all[0]), linked(&all[1]), wrongly_named.clone(), misplaced.clone()];
    let bad: BTreeSet<String> = bad.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(unverified, bad);
    let ignored: BTreeSet<String> = named(&said.json["foreign"]).into_iter().collect();
    let odd = [unfinished, foreign, link, folder_of_others].map(|path| path.display().to_string());
    assert_eq!(ignored, odd.into());
    assert_eq!(tree(&at("nitro"), true).unwrap(), source);
    let server = member(&at("data"), &[]);
    for batch in &all[2..] {
        assert_gives(&server.rest_url(), &batch.hash, &batch.bytes());
    }

    // Another member has what is damaged here.
    let other = member(&at("other"), &[]);
    for batch in &all[..2] {
        super::member::store(&other.rpc_url(), &batch.bytes(), batch.expiry).unwrap();
    }
    let said = import(&at("nitro"), &at("data"), &["--rest", &other.rest_url()]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!((said.json["imported"].as_u64(), said.json["mended"]["count"].as_u64()), (Some(2), Some(2)));
    for batch in &all {
        assert_gives(&server.rest_url(), &batch.hash, &batch.bytes());
    }

    // By hash alone, from a list with an expiry and from words without.
    let third = at("third");
    fs::create_dir(&third).unwrap();
    let list = format!("# both\n0x{} {}\n{}\n", all[0].hash, all[0].expiry, all[1].hash);
    fs::write(at("list"), list).unwrap();
    let (list, third_name) = (at("list"), third.to_str().unwrap().to_owned());
    let fetch = |more: &[&str]| {
        let (rest, list) = (other.rest_url(), list.to_str().unwrap().to_owned());
        let args = ["import", "--rest", &rest, "--hashes", &list, "--data-dir", &third_name];
        dastool(&[&args, more].concat())
    };
    assert_eq!(fetch(&[]).good()["imported"], 2);
    assert_eq!(fetch(&[]).good()["present"], 2);
    let nobody_s = format!("0x{}", DataHash::of(b"nobody has it"));
    let said = fetch(&[&nobody_s]);
    assert_eq!((said.code, named(&said.json["unverified"])), (1, vec![nobody_s]));
    let out = at("out-of-third");
    export(&third, &out, &[]).good();
    assert!(out.join(by_expiry(&all[0].hash, all[0].expiry)).is_file());
}

#[test]
fn an_import_or_export_that_is_killed_goes_on_where_it_was() {
    let seed = test_seed();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let all = generate(&at("nitro"), seed, 40_000_000, 1..=120_000, unix_now()).unwrap();
    let rounds: usize = std::env::var("DAS_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (nitro, data, out) = (text(at("nitro")), text(at("data")), text(at("out")));
    // Into a node that is stopped, and into one that runs.
    for running in [false, true] {
        let data = if running { text(at("data-of-running")) } else { data.clone() };
        fs::create_dir(&data).unwrap();
        let server = running.then(|| member(Path::new(&data), &[]));
        for _ in 0..rounds {
            let mut killed =
                begin(&["import", "--from", &nitro, "--data-dir", &data, "--max-memory", "1MiB"]);
            std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        let said = import(Path::new(&nitro), Path::new(&data), &[]).good();
        let count = |name: &str| said[name].as_u64().unwrap();
        println!(
            "running {running}: {} left, {} there of {}",
            count("imported"),
            count("present"),
            all.len()
        );
        assert_eq!(count("imported") + count("present"), all.len() as u64);
        let server = server.unwrap_or_else(|| member(Path::new(&data), &[]));
        for batch in &all {
            assert_gives(&server.rest_url(), &batch.hash, &batch.bytes());
        }
    }
    for _ in 0..rounds {
        let mut killed = begin(&["export", "--data-dir", &data, "--to", &out]);
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    export(Path::new(&data), Path::new(&out), &[]).good();
    assert_eq!(tree(&at("nitro"), false).unwrap(), tree(&at("out"), false).unwrap());
}

#[test]
fn the_socket_is_for_the_node_s_own_user() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let folder = folder();
    let data = folder.path().join("data");
    let mut server = member(&data, &[]);
    let socket = fs::symlink_metadata(data.join("admin.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o777, 0o600);
    server.stop().unwrap();
    assert!(!data.join("admin.sock").exists());
    // With the socket off, a running node's data is out of reach, and that is said.
    let _server = member(&data, &["--admin.socket=false"]);
    fs::create_dir(folder.path().join("nitro")).unwrap();
    let said = import(&folder.path().join("nitro"), &data, &[]);
    said.fails_with("DAS-IMPORT-003");
    assert!(said.stderr.contains("in use by another process"), "{said:?}");
    import(Path::new("/nowhere"), &data, &[]).fails_with("DAS-IMPORT-002");
    import(&folder.path().join("nitro"), &data, &["--rest", "http://127.0.0.1:1", "0x12"]).fails_with("0x12");
}
