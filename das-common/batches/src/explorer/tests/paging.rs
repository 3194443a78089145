//! Listings read page by page while the chain changes.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::fake::*;
use super::numbers;
use crate::types::Progress;

/// Posts some, or takes some back and posts others in their place, but never touches those below `firm`.
fn disturb(rng: &mut StdRng, site: &Site, firm: u64, gone: &mut BTreeSet<u64>) {
    let mut shelf = site.fake.0.lock();
    let mut count = shelf.batches.iter().filter(|batch| batch.era == 1).count() as u64;
    if rng.random_bool(0.4) {
        let left = rng.random_range(firm..=count);
        gone.extend(left..count);
        shelf.batches.retain(|batch| batch.era != 1 || batch.number < left);
        count = left;
    }
    let posted = rng.random_range(0..4);
    shelf.batches.extend((count..count + posted).map(|number| plain(1, number)));
    if rng.random_bool(0.05) && shelf.eras.len() == 1 {
        shelf.eras = vec![era(2, None), era(1, Some(START + 10))];
        shelf.progress = Progress { era: Some(2), ..Progress::default() };
        shelf.batches.extend((0..40).map(|number| plain(2, number)));
    }
}

#[tokio::test]
async fn a_walk_meets_every_batch_once_whatever_comes_and_goes() {
    let mut rng = seeded();
    for _ in 0..60 {
        let count = rng.random_range(0..70);
        let firm = rng.random_range(0..=count);
        let limit = rng.random_range(1..12);
        let site = Site::of((0..count).map(|number| plain(1, number)).collect());
        let (mut seen, mut gone) = (Vec::new(), BTreeSet::new());
        let mut path = format!("/api/batches?limit={limit}");
        loop {
            let page = site.json(&path).await;
            let batches = numbers(&page["batches"]);
            assert!(batches.len() <= limit);
            assert!(batches.iter().all(|(era, _)| *era == 1), "the walk strayed into another era");
            seen.extend(batches.iter().map(|(_, number)| *number));
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(batches.len(), limit, "a page with a next one is full");
            path = format!("/api/batches?limit={limit}&before={next}");
            disturb(&mut rng, &site, firm, &mut gone);
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        let missed: Vec<_> =
            (0..count).filter(|number| !gone.contains(number) && !seen.contains(number)).collect();
        assert!(missed.is_empty(), "missed {missed:?} of {count} with {gone:?} taken back; saw {seen:?}");
    }
}

#[tokio::test]
async fn a_walk_in_a_span_of_time_meets_what_a_plain_filter_keeps() {
    let mut rng = seeded();
    let site = Site::of((0..50).map(|number| plain(1, number)).collect());
    for _ in 0..100 {
        let mut time = || START + rng.random_range(0..620);
        let (a, b) = (time(), time());
        let (since, until) = (a.min(b), a.max(b));
        let (with_since, with_until) = (rng.random_bool(0.8), rng.random_bool(0.8));
        let mut filter = String::new();
        if with_since {
            filter += &format!("&since={since}");
        }
        if with_until {
            filter += &format!("&until={until}");
        }
        let limit = rng.random_range(1..30);
        let (mut seen, mut before) = (Vec::new(), String::new());
        loop {
            let page = site.json(&format!("/api/batches?limit={limit}{filter}{before}")).await;
            seen.extend(numbers(&page["batches"]).iter().map(|(_, number)| *number));
            let Some(next) = page["next"].as_str() else { break };
            before = format!("&before={next}");
        }
        let kept = |number: &u64| {
            let time = START + number * 12;
            (!with_since || time >= since) && (!with_until || time <= until)
        };
        let expected: Vec<_> = (0..50).rev().filter(kept).collect();
        assert_eq!(seen, expected, "{filter} limit {limit}");
    }
}

#[tokio::test]
async fn the_pages_lead_through_all_batches() {
    let site = Site::of((0..60).map(|number| plain(1, number)).collect());
    let (mut path, mut rows) = ("/".to_owned(), 0);
    let mut visited = vec![path.clone()];
    loop {
        let page = site.get(&path).await.text();
        rows += page.matches("<th scope=\"row\">").count();
        let link = |label: &str| {
            let before = page.find(label)?;
            let start = page[..before].rfind("href=\"")? + 6;
            Some(page[start..start + page[start..].find('"')?].to_owned())
        };
        if visited.len() > 1 {
            let newer = link("← Newer").expect("a way back");
            let back = site.get(&newer).await.text();
            let first = |page: &str| page.split("<th scope=\"row\">").nth(1).map(str::to_owned);
            let previous = site.get(&visited[visited.len() - 2]).await.text();
            assert_eq!(first(&back), first(&previous), "{newer} leads elsewhere");
        }
        let Some(next) = link("Older →") else { break };
        visited.push(next.clone());
        path = next;
    }
    assert_eq!((rows, visited.len()), (60, 3));
}
