//! What is noted for the archive, and what is in it only.

use super::*;
use crate::storage::index::{Archived, Archiving, Errand, Note};

const BOTH: Archiving = Archiving { uploads: true, deletes: true };

fn waiting(store: &BatchStore, errand: Errand) -> Vec<DataHash> {
    store.index().notes(errand, None, 100).unwrap().iter().map(|note| note.hash).collect()
}

#[tokio::test]
async fn what_is_stored_waits_for_its_upload_until_it_is_done_also_where_the_log_alone_knows_of_it() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let before = batch(9, 500);
    store.put(&before, 9_000, 1).await.unwrap();
    assert!(waiting(&store, Errand::Upload).is_empty(), "there is no archive");
    store.archive_to("here", BOTH).unwrap();
    assert!(!store.backfill_step().await.unwrap());
    assert_eq!(waiting(&store, Errand::Upload), [before.hash()], "what was there before is noted too");

    let batches: Vec<_> = (0..5).map(|number| batch(number, 1000)).collect();
    for (at, batch) in (10..).zip(&batches) {
        store.put(batch, 10_000, at).await.unwrap();
    }
    let mut expected = vec![before.hash()];
    expected.extend(batches.iter().map(VerifiedBatch::hash));
    assert_eq!(waiting(&store, Errand::Upload), expected, "the oldest first");
    let first = store.notes(Errand::Upload, None, 1).await.unwrap()[0];
    let second = store.notes(Errand::Upload, Some(first), 1).await.unwrap()[0];
    assert_eq!(second.hash, expected[1]);
    store.forget_note(first).await.unwrap();
    store.put(&before, 9_500, 20).await.unwrap();
    assert_eq!(waiting(&store, Errand::Upload), expected[1..], "a later timeout brings no new bytes");
    drop(store);

    // The index lost: all is noted anew, from the log.
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(&dir);
    store.archive_to("here", BOTH).unwrap();
    while store.backfill_step().await.unwrap() {}
    assert_eq!(waiting(&store, Errand::Upload).len(), 6);
}

#[tokio::test]
async fn a_payload_leaves_only_when_nothing_is_noted_and_comes_back_with_a_store() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.archive_to("here", BOTH).unwrap();
    let whole = batch(1, 70_000);
    let hash = whole.hash();
    store.put(&whole, 10_000, 10).await.unwrap();
    assert_eq!(store.drop_archived(vec![hash]).await.unwrap(), 0, "it waits for its upload");
    let note = store.upload_note(hash).await.unwrap().unwrap();
    store.forget_note(note).await.unwrap();
    assert_eq!(store.drop_archived(vec![hash, DataHash::of(b"unknown")]).await.unwrap(), 1);
    assert_eq!(store.drop_archived(vec![hash]).await.unwrap(), 0);

    let only = Archived { batches: 1, bytes: 70_000 };
    let mut store = store;
    for _ in 0..2 {
        drop(store);
        store = open(&dir);
        assert!(store.get(hash).await.unwrap().is_archived());
        assert_eq!((store.archived().unwrap(), store.timeout(&hash).unwrap()), (only, Some(10_000)));
        assert_eq!(store.usage().await.unwrap().whole_batches, 0);
        assert!(store.oldest_whole(u64::MAX, 10).unwrap().is_empty());
    }
    assert_eq!(store.extend(hash, 20_000, 11).await.unwrap(), Some(20_000));
    assert_eq!(store.put(&whole, 15_000, 12).await.unwrap(), PutOutcome::MadeWhole);
    assert_eq!(store.get(hash).await.unwrap(), Lookup::Found(whole));
    assert_eq!(
        (store.archived().unwrap(), store.timeout(&hash).unwrap()),
        (Archived::default(), Some(20_000))
    );
    assert_eq!(waiting(&store, Errand::Upload), [hash], "and is brought there again");
}

#[tokio::test]
async fn what_expires_is_deleted_there_and_not_brought_there_any_more() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.archive_to("here", BOTH).unwrap();
    let (one, two) = (batch(1, 100), batch(2, 100));
    store.put(&one, 10_000, 10).await.unwrap();
    store.put(&two, 20_000, 10).await.unwrap();
    store.forget_note(Note { errand: Errand::Upload, time: 10, hash: one.hash() }).await.unwrap();
    store.drop_archived(vec![one.hash()]).await.unwrap();
    assert_eq!(store.expire(20_000, 10).await.unwrap().len(), 2);
    assert!(waiting(&store, Errand::Upload).is_empty());
    assert_eq!(waiting(&store, Errand::Delete), [one.hash(), two.hash()]);
    assert_eq!(store.archived().unwrap(), Archived::default());

    store.archive_to("here", Archiving { deletes: false, ..BOTH }).unwrap();
    store.put(&one, 30_000, 20).await.unwrap();
    store.expire(30_000, 10).await.unwrap();
    assert_eq!(waiting(&store, Errand::Delete).len(), 2, "no new one where objects stay");
}
