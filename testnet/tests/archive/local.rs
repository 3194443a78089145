//! A local directory as the archive.

use das_common::data_hash::DataHash;

use super::nodes::{assert_serves, batch, member, options, reader, status, store};
use super::s3::{folder, until};

#[test]
fn a_directory_is_an_archive_too() {
    let (archive, data) = (folder(), folder());
    let url = format!("--archive.url=file://{}", archive.path().display());
    let more =
        options(&[&url, "--archive.local-retention=1s", "--data-availability.local-cache.max-bytes=0"]);
    let mut server = member(data.path(), &more).start().unwrap();
    let batches: Vec<_> = (0..10).map(|number| batch(number, 5_000)).collect();
    batches.iter().for_each(|batch| store(&server, batch));
    until("all are there only", || status(&server)["archive"]["onlyThereBatches"] == 10);
    for batch in &batches {
        let name = const_hex::encode(DataHash::of(batch).as_bytes());
        assert_eq!(&std::fs::read(archive.path().join(name)).unwrap(), batch);
        assert_serves(&server, batch);
    }
    let mut node = reader(&options(&[&url])).start().unwrap();
    server.stop().unwrap();
    batches.iter().for_each(|batch| assert_serves(&node, batch));
    node.stop().unwrap();

    let missing = options(&["--archive.url=file:///nowhere/at/all"]);
    let (ended, said) = reader(&missing).run_to_end(std::time::Duration::from_secs(60)).unwrap();
    assert!(!ended.success() && said.contains("--archive.url: /nowhere/at/all is no directory"), "{said}");
}
