//! Backups of a store that is at work, at the moments that matter.

use tokio_util::sync::CancellationToken;

use super::super::backup::{BackupError, Meter, restore};
use super::*;

fn back_up(store: &BatchStore, to: &Path, base: Option<&Path>) -> Result<backup::Manifest, BackupError> {
    store.back_up(to, base, &Meter::default(), &CancellationToken::new())
}

fn segment_files(directory: &TempDir) -> Vec<Vec<u8>> {
    let segments = directory.path().join("segments");
    let ids = segment::list(&segments).unwrap();
    ids.iter().map(|id| std::fs::read(segment::path(&segments, *id)).unwrap()).collect()
}

#[test]
fn nothing_is_punched_while_segments_are_copied_and_everything_after() {
    let (runtime, directory) = (runtime(), TempDir::new().unwrap());
    let store = open(&directory);
    runtime.block_on(async {
        // Every second one is let go: no segment becomes empty.
        for number in 0..20 {
            store.put(&batch(number, 20_000), u64::from(100 + number % 2 * 1000), 1).await.unwrap();
        }
        store.trim().await.unwrap();
        let before = segment_files(&directory);
        let paused = backup::Pause::begin(&store);
        assert_eq!(store.expire(500, 64).await.unwrap().len(), 10);
        assert!(segment_files(&directory) == before, "as it was");
        assert_eq!(store.index.holes().unwrap().len(), 10);
        drop(paused);
        assert!(store.index.holes().unwrap().is_empty());
        for number in 0..20 {
            let found = store.get(batch(number, 20_000).hash()).await.unwrap();
            assert_eq!(found == Lookup::Absent, number % 2 == 0);
        }
        let zeroes = |files: &[Vec<u8>]| files.iter().flatten().filter(|byte| **byte == 0).count();
        assert!(zeroes(&segment_files(&directory)) > zeroes(&before) + 150_000);
    });
}

#[test]
fn what_is_stored_let_go_and_extended_during_a_backup_costs_nothing_of_it() {
    let (runtime, directory, backups) = (runtime(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(&directory);
    let promised: Vec<_> = (0..60).map(|number| batch(number, 10_000)).collect();
    runtime.block_on(async {
        for batch in &promised {
            store.put(batch, 1000, 1).await.unwrap();
        }
        let shards = promised[..20].iter().map(|batch| new_shard(batch, 1)).collect();
        store.put_shards(shards).await.unwrap();
        let whole = promised[..10].iter().map(|batch| (batch.hash(), 1000)).collect();
        let dropped = store.drop_whole(whole).await.unwrap();
        assert!(dropped.iter().all(|outcome| *outcome == DropOutcome::Dropped), "{dropped:?}");
    });
    let mut last: Option<PathBuf> = None;
    for round in 0..4_u32 {
        let to = backups.path().join(format!("{round}"));
        let busy = Arc::clone(&store);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                runtime.block_on(async {
                    for number in 0..40 {
                        let new = batch(1000 + round * 100 + number, 9_000);
                        busy.put(&new, 200 + u64::from(number % 3), 1).await.unwrap();
                        busy.put(&promised[30], 1001 + u64::from(round * 100 + number), 1).await.unwrap();
                        busy.expire(201, 64).await.unwrap();
                    }
                });
            });
            back_up(&store, &to, last.as_deref()).unwrap();
        });
        let target = TempDir::new().unwrap();
        let restored = restore(&to, target.path(), &Arc::default(), &Meter::default()).unwrap();
        assert!(restored.verified.damaged.is_empty(), "round {round}: {:?}", restored.verified);
        assert_eq!(restored.verified.shards, 20);
        let again = open(&target);
        runtime.block_on(async {
            for batch in &promised[10..] {
                assert_eq!(again.get(batch.hash()).await.unwrap(), Lookup::Found(batch.clone()));
            }
            for batch in &promised[..10] {
                assert!(matches!(again.get(batch.hash()).await.unwrap(), Lookup::Sharded { .. }));
            }
        });
        assert!(matches!(
            restore(&to, target.path(), &Arc::default(), &Meter::default()),
            Err(BackupError::Occupied { .. })
        ));
        last = Some(to);
    }
    let last = backup::Manifest::read(&last.unwrap()).unwrap();
    assert!(last.linked_bytes() > 0 && last.linked_bytes() < last.bytes());
    // A database that was rolled back gives its segments numbers that the other history has given too.
    let (first, rolled_back) = (backups.path().join("0"), TempDir::new().unwrap());
    restore(&first, rolled_back.path(), &Arc::default(), &Meter::default()).unwrap();
    let other = open(&rolled_back);
    let linked = |base: &str, to: &str| {
        let made = back_up(&other, &backups.path().join(to), Some(&backups.path().join(base)));
        made.unwrap().linked_bytes()
    };
    assert_eq!(linked("3", "from-the-other-history"), 0);
    assert!(linked("0", "from-its-own") > 0);
    // Told to stop, it leaves nothing that could be taken for a backup.
    let (stop, to) = (CancellationToken::new(), backups.path().join("stopped"));
    stop.cancel();
    let error = store.back_up(&to, None, &Meter::default(), &stop).unwrap_err();
    assert!(matches!(error, BackupError::Stopped) && !to.exists());
    back_up(&store, &to, None).unwrap();
    assert!(!directory.path().join("backup-links").exists());
}
