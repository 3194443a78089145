//! Links of the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// README.md and all pages below docs.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !fence && !in_block && !line.starts_with("    ")
    })
}

/// The names that headings have in links: lower case, spaces as hyphens, no other punctuation; again with a number.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim());
    titles
        .map(|title| {
            let title = without_links(title).replace("&lt;", "<").replace("&gt;", ">");
            let kept = title.chars().filter(|&c| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ');
            let anchor = kept.collect::<String>().to_lowercase().replace(' ', "-");
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times > 1 { format!("{anchor}-{}", *times - 1) } else { anchor }
        })
        .collect()
}

/// `[text](target)` is its text.
fn without_links(title: &str) -> String {
    let (mut out, mut rest) = (String::new(), title);
    while let Some((before, after)) = rest.split_once("](") {
        out += &before.replace('[', "");
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// Where the links of a page lead.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(text) {
        // What is in backquotes is no link.
        let outside: String = line.split('`').step_by(2).collect();
        for part in outside.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            targets.push(target.to_owned());
        }
    }
    targets
}

#[test]
fn no_link_leads_nowhere_and_the_handbook_has_every_page() {
    let mut wrong = Vec::new();
    let mut linked = BTreeSet::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in targets(&text) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let name = format!("{}: {target}", page.strip_prefix(root()).unwrap().display());
            let Ok(path) = path.canonicalize() else {
                wrong.push(format!("{name}: there is no such file"));
                continue;
            };
            if page == root().join("docs/README.md") {
                linked.insert(path.clone());
            }
            if !anchor.is_empty() && !anchors(&std::fs::read_to_string(&path).unwrap()).contains(anchor) {
                wrong.push(format!("{name}: there is no such heading"));
            }
        }
    }
    for page in pages().into_iter().filter(|page| page.parent().unwrap().ends_with("docs")) {
        if !linked.contains(&page) && !page.ends_with("docs/README.md") {
            wrong.push(format!("docs/README.md does not name {}", page.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn headings_have_the_names_that_links_use() {
    let page = "# One `das_x`, two\n```\n# none\n```\n## Two\n## Two\n### GET /a/&lt;hash&gt;\n## [a](b.md): c\n    # code\n";
    let expected = ["a-c", "get-ahash", "one-das_x-two", "two", "two-1"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
    assert_eq!(targets("see [a](b.md#c), `[no](x)` and [d](#e)"), ["b.md#c", "#e"]);
}
