//! Everything about one batch.

use das_common::certificate::Certificate;
use das_common::sequencer_message::MIN_LIFETIME;
use maud::{Markup, html};

use super::frame::Scene;
use super::parts::{batch_path, chain_hash, grouped, kind, length, moment, payload, size, verify_path};
use crate::explorer::rosters::{Rosters, SignerShape};
use crate::explorer::shapes::hex;
use crate::explorer::sources::Availability;
use crate::explorer::verify::Asked;
use crate::explorer::{Explorer, clock};
use crate::types::{Content, Payload, PostedBatch};

pub(super) fn page(
    explorer: &Explorer,
    scene: &Scene,
    batch: &PostedBatch,
    rosters: &Rosters,
    asked: Option<&Asked>,
) -> Markup {
    let in_force = scene.is_in_force(batch.era);
    let neighbour = |number: u64| batch_path(batch.era, number, in_force);
    let certificate = crate::explorer::listing::certificate(batch);
    let signers = certificate.as_ref().and_then(|certificate| rosters.signers(certificate));
    html! {
        div.title {
            h1 { "Batch " (batch.number) @if !in_force { " " span.pill { "era " (batch.era) } } }
            nav aria-label="Neighbours" {
                @if let Some(before) = batch.number.checked_sub(1) { a href=(neighbour(before)) { "← " (before) } }
                @if let Some(after) = batch.number.checked_add(1) { a href=(neighbour(after)) { (after) " →" } }
            }
        }
        (summary(scene, batch, certificate.as_ref(), asked))
        @if let Some(certificate) = &certificate {
            (certified(scene, batch, certificate))
            (signed(rosters, certificate, signers.as_deref()))
        }
        (on_chain(explorer, scene, batch))
        @if let Content::Certificate(bytes) = &batch.content {
            details.card {
                summary { "The certificate as posted, " (bytes.len()) " bytes" }
                code.raw { (const_hex::encode_prefixed(bytes)) }
            }
        }
    }
}

fn summary(
    scene: &Scene,
    batch: &PostedBatch,
    certificate: Option<&Certificate>,
    asked: Option<&Asked>,
) -> Markup {
    let in_force = scene.is_in_force(batch.era);
    let gone = asked.is_some_and(|asked| asked.availability == Availability::NotFound);
    html! {
        section.card {
            dl {
                dt { "Posted" } dd { (moment(batch.timestamp, scene.now)) }
                dt { "Posted as" }
                dd {
                    (kind(&batch.content))
                    @match &batch.content {
                        Content::Certificate(bytes) => {
                            @if let Err(error) = Certificate::parse_as_nitro(bytes) {
                                ", which does not parse: " span.why { (error) }
                            }
                        }
                        Content::Data { header: Some(header), .. } => { " with the header " code { (format!("{header:#04x}")) } }
                        Content::Data { header: None, .. } | Content::Nothing | Content::Blobs => {}
                        Content::Unreadable(why) => { ": " span.why { (why) } }
                    }
                }
                @if let Some(length) = length(batch) {
                    dt { "Size" } dd { (size(length)) @if length >= 1000 { span.quiet { " (" (grouped(length)) " bytes)" } } }
                }
                dt { "Payload" } dd { (payload(&batch.payload)) (became(scene, &batch.payload)) }
                @if let Some(asked) = asked {
                    dt { "Available" } dd { (availability(asked)) }
                }
            }
            @if let Content::Certificate(_) = &batch.content {
                p.actions {
                    @if let (Some(certificate), false) = (certificate, gone) {
                        a.button.strong href=(download_path(batch, certificate)) download { "Download" }
                    }
                    a.button href=(verify_path(batch.era, batch.number, in_force)) rel="nofollow" { "Verify" }
                }
            }
        }
    }
}

/// With the hash: the answer never changes, and the number may come to name another batch.
fn download_path(batch: &PostedBatch, certificate: &Certificate) -> String {
    let (era, number) = (batch.era, batch.number);
    format!("/api/batches/{number}/payload?era={era}&hash={}", hex(&certificate.data_hash))
}

fn became(scene: &Scene, payload: &Payload) -> Markup {
    match payload {
        Payload::None => html! { " nothing to fetch" },
        Payload::Fetched { .. } => html! { " and its hash was checked" },
        Payload::Waiting { attempts: 0, .. } => html! { " to be fetched" },
        Payload::Waiting { attempts, retry_at, why } => html! {
            " after " (attempts) @if *attempts == 1 { " try" } @else { " tries" } ", next " (clock::distance(*retry_at, scene.now))
            @if let Some(why) = why { br; span.why { (why) } }
        },
        Payload::Ignored { why } => html! { " by every node: " span.why { (why) } },
    }
}

fn availability(asked: &Asked) -> Markup {
    let (class, state, why) = match &asked.availability {
        Availability::Whole => ("pill good", "held here, whole", None),
        Availability::Shard => ("pill good", "held here, as a shard", None),
        Availability::Elsewhere => ("pill good", "readable through others", None),
        Availability::NotFound => ("pill bad", "found nowhere", None),
        Availability::Unknown { why } => ("pill waits", "cannot be told", Some(why)),
    };
    html! {
        span class=(class) { (state) } " " span.quiet { "asked at " (clock::shown(asked.at)) }
        @if let Some(why) = why { br; span.why { (why) } }
    }
}

fn certified(scene: &Scene, batch: &PostedBatch, certificate: &Certificate) -> Markup {
    let needed = batch.bounds.max_timestamp.wrapping_add(MIN_LIFETIME);
    let left = certificate.timeout.checked_sub(scene.now).filter(|left| *left > 0);
    html! {
        section.card {
            h2 { "Certificate" }
            dl {
                dt { "Data hash" } dd { code.hash { (hex(&certificate.data_hash)) } }
                dt { "Keyset" } dd { code.hash { (hex(&certificate.keyset_hash)) } }
                dt { "Version" } dd { (certificate.version) }
                dt { "Kept until" }
                dd {
                    (clock::shown(certificate.timeout)) " "
                    @match left {
                        Some(left) => span.pill.good { (clock::span(left)) " left" },
                        None => span.pill.waits { "over" }
                    }
                    @if certificate.timeout < needed {
                        br; span.why { "Nodes need it until " (clock::shown(needed)) " at least, and ignore this batch." }
                    }
                }
                dt { "Signers mask" } dd { code { (format!("{:#x}", certificate.signers_mask)) } }
            }
        }
    }
}

fn signed(rosters: &Rosters, certificate: &Certificate, signers: Option<&[SignerShape]>) -> Markup {
    let Some((honest, signers)) = rosters.assumed_honest(&certificate.keyset_hash).zip(signers) else {
        return html! {
            section.card {
                h2 { "Signers" }
                p.quiet { "The keyset of this certificate cannot be had now, so its signers are known by their bits only." }
            }
        };
    };
    let count = signers.iter().filter(|signer| signer.signed).count();
    html! {
        section.card {
            h2 { "Signers" }
            p {
                b { (count) " of " (signers.len()) } " members signed; "
                (honest) @if honest == 1 { " is" } @else { " are" } " assumed honest."
            }
            ul.signers {
                @for signer in signers {
                    @if signer.signed {
                        li.on { span.tick aria-hidden="true" { "✓" } span.name { (signer.name) } span.quiet { "signed" } }
                    } @else {
                        li { span.tick aria-hidden="true" { "–" } span.name { (signer.name) } span.quiet { "did not sign" } }
                    }
                }
            }
        }
    }
}

fn on_chain(explorer: &Explorer, scene: &Scene, batch: &PostedBatch) -> Markup {
    let (bounds, links) = (&batch.bounds, &explorer.links);
    html! {
        section.card {
            h2 { "On the parent chain" }
            dl {
                dt { "Transaction" } dd { (chain_hash(&batch.transaction, links.transaction.as_ref(), true)) }
                dt { "Block" }
                dd { (grouped(batch.block.number)) br; (chain_hash(&batch.block.hash, links.block.as_ref(), true)) }
                dt { "Log" } dd { "number " (batch.log_index) " of the block" }
                dt { "Times" } dd { (clock::shown(bounds.min_timestamp)) " to " (clock::shown(bounds.max_timestamp)) }
                dt { "Blocks" } dd { (grouped(bounds.min_block)) " to " (grouped(bounds.max_block)) }
                dt { "Delayed messages" } dd { (grouped(batch.after_delayed)) " read with it and before" }
                dt { "Accumulator before" } dd { code.hash { (batch.before_acc) } }
                dt { "Accumulator with it" } dd { code.hash { (batch.after_acc) } }
                @if let Some(era) = &scene.era {
                    dt { "Contract" } dd { code.hash { (era.inbox) } span.quiet { " on chain " (era.chain_id) ", era " (era.id) } }
                }
            }
        }
    }
}
