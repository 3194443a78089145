//! `online-url-list`: text of URLs, which may name further lists, as pure code.
//!
//! ```text
//! https://a.example https://b.example
//! LIST https://lists.example/more.txt
//! ```
//! Words are separated by any white space. The word `LIST`, in any case, says that the next word is the URL of
//! another list.
//!
//! A hostile list costs bounded work: lists lie at most [`MAX_DEPTH`] deep, each is fetched once, and both lists and
//! endpoints are counted.

use std::collections::{HashSet, VecDeque};

/// A list named by the one configured lies at depth 1.
pub const MAX_DEPTH: usize = 8;
/// Lists fetched for one configured URL.
pub const MAX_LISTS: usize = 64;
/// Endpoints taken from all of them.
pub const MAX_ENDPOINTS: usize = 1024;
/// Bytes of one list.
pub const MAX_LIST_BYTES: usize = 256 * 1024;

/// The walk over a list and those it names, without any I/O: take [`next`](Self::next), fetch it, hand the text to
/// [`feed`](Self::feed) (or nothing when it cannot be had), until `next` gives nothing.
#[derive(Debug)]
pub struct ListWalk {
    waiting: VecDeque<(String, usize)>,
    seen: HashSet<String>,
    depth: usize,
    endpoints: Vec<String>,
    known: HashSet<String>,
}

impl ListWalk {
    /// Starts with the list configured.
    pub fn new(list_url: &str) -> Self {
        Self {
            waiting: VecDeque::from([(list_url.to_owned(), 0)]),
            seen: HashSet::from([list_url.to_owned()]),
            depth: 0,
            endpoints: Vec::new(),
            known: HashSet::new(),
        }
    }

    /// The URL of the next list to fetch.
    #[allow(clippy::should_implement_trait)] // it is a walk that is fed, not an iterator
    pub fn next(&mut self) -> Option<String> {
        let (url, depth) = self.waiting.pop_front()?;
        self.depth = depth;
        Some(url)
    }

    /// The text of the list that [`next`](Self::next) gave last.
    pub fn feed(&mut self, text: &str) {
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            if !word.eq_ignore_ascii_case("LIST") {
                if self.endpoints.len() < MAX_ENDPOINTS && self.known.insert(word.to_owned()) {
                    self.endpoints.push(word.to_owned());
                }
                continue;
            }
            let Some(list) = words.next() else { break };
            if self.depth < MAX_DEPTH && self.seen.len() < MAX_LISTS && self.seen.insert(list.to_owned()) {
                self.waiting.push_back((list.to_owned(), self.depth + 1));
            }
        }
    }

    /// Has nothing been learned so far, neither an endpoint nor a further list?
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.waiting.is_empty()
    }

    /// The endpoints found, each once, in the order of finding.
    pub fn into_endpoints(self) -> Vec<String> {
        self.endpoints
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn walk(start: &str, texts: &HashMap<String, String>) -> (Vec<String>, usize) {
        let mut walk = ListWalk::new(start);
        let mut fetched = 0;
        while let Some(url) = walk.next() {
            fetched += 1;
            if let Some(text) = texts.get(&url) {
                walk.feed(text);
            }
        }
        (walk.into_endpoints(), fetched)
    }

    fn lists(texts: &[(&str, &str)]) -> HashMap<String, String> {
        texts.iter().map(|(url, text)| ((*url).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn nested_lists_are_read_once_each() {
        let texts = lists(&[
            ("l0", "http://a\n\tLIST l1 http://b list l2 LIST"),
            ("l1", "http://c http://a LIST l0 LiSt l2"),
            ("l2", "http://d"),
        ]);
        let (endpoints, fetched) = walk("l0", &texts);
        assert_eq!(endpoints, ["http://a", "http://b", "http://c", "http://d"]);
        assert_eq!(fetched, 3);
    }

    #[test]
    fn depth_is_bounded() {
        let texts: HashMap<_, _> =
            (0..20).map(|i| (format!("l{i}"), format!("http://e{i} LIST l{}", i + 1))).collect();
        let (endpoints, fetched) = walk("l0", &texts);
        assert_eq!(fetched, MAX_DEPTH + 1);
        assert_eq!(endpoints.len(), MAX_DEPTH + 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_lists_cost_bounded_work(texts in prop::collection::vec("([a-c]|LIST|l[0-9]{1,2}| ){0,200}", 100)) {
            let texts: HashMap<_, _> =
                texts.into_iter().enumerate().map(|(i, text)| (format!("l{i}"), text)).collect();
            let (endpoints, fetched) = walk("l0", &texts);
            prop_assert!(fetched <= MAX_LISTS && endpoints.len() <= MAX_ENDPOINTS);
            let distinct: HashSet<_> = endpoints.iter().collect();
            prop_assert_eq!(distinct.len(), endpoints.len());
        }
    }
}
