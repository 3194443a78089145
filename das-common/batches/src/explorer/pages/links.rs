//! Where else a transaction or a block may be looked at.

use std::str::FromStr;

use alloy_primitives::B256;
use thiserror::Error;
use url::Url;

const PLACE: &str = "{}";

/// What is no template of a link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadLink {
    /// It names no place for the hash, or several.
    #[error("a link's template has {{}} once, where the hash goes; {got:?} has it {count} times")]
    Place {
        /// The template.
        got: String,
        /// How often.
        count: usize,
    },
    /// It is no URL of a page.
    #[error("a link's template is a URL that begins with https:// or http://, not {got:?}")]
    Url {
        /// The template.
        got: String,
    },
}

/// The URL of a page about a hash, with `{}` in place of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTemplate {
    before: String,
    after: String,
}

impl FromStr for LinkTemplate {
    type Err = BadLink;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.matches(PLACE).count();
        let Some((before, after)) = text.split_once(PLACE).filter(|_| count == 1) else {
            return Err(BadLink::Place { got: text.into(), count });
        };
        // Anything else than a page, such as a script, must not become a link.
        let is_page = Url::parse(&format!("{before}0{after}"))
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_page || before.find("://").is_none_or(|scheme| !before[scheme + 3..].contains('/')) {
            return Err(BadLink::Url { got: text.into() });
        }
        Ok(Self { before: before.into(), after: after.into() })
    }
}

impl LinkTemplate {
    /// The page about `hash`.
    pub fn of(&self, hash: &B256) -> String {
        format!("{}{hash}{}", self.before, self.after)
    }
}

impl Links {
    /// Of the templates; an empty one links nothing.
    pub fn of(transaction: &str, block: &str) -> Result<Self, BadLink> {
        let template = |text: &str| match text {
            "" => Ok(None),
            text => text.parse().map(Some),
        };
        Ok(Self { transaction: template(transaction)?, block: template(block)? })
    }
}

/// What is linked. By default nothing is: these pages name no other site of their own accord.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Transactions.
    pub transaction: Option<LinkTemplate>,
    /// Blocks.
    pub block: Option<LinkTemplate>,
}
