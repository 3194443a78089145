//! The node's own page.

use std::sync::Arc;

use axum::Router;
use das_common::bls::PublicKey;
use das_common::config::sections::given;
use das_common::telemetry::MetricsHandle;
use das_dashboard::Dashboard;

use super::{Node, StartError, load_committee};
use crate::health::Health;
use crate::options::NodeOptions;
use crate::page::Page;

impl Node {
    /// The page's routes; its samples are taken from now on.
    pub(super) fn dashboard(
        &mut self,
        options: &NodeOptions,
        key: Option<&PublicKey>,
        health: Arc<Health>,
        metrics: MetricsHandle,
    ) -> Result<Router, StartError> {
        let bound = self.bound.explorer.map(|served| format!("{served}/"));
        let link = &options.dashboard.explorer_link;
        let explorer = bound.map(|bound| if link.is_empty() { bound } else { link.clone() });
        let name = member_name(options, key)?;
        let page = Page::new(health, self.custody.clone(), name, explorer);
        // A node without a disk remembers nothing.
        let folder =
            given(&options.data_availability.local_file_storage.data_dir).map(|dir| dir.join("dashboard"));
        let dashboard = Dashboard::open(page, metrics, folder.as_deref())?;
        let routes = dashboard.routes(self.stop.clone());
        self.background.spawn(dashboard.run(self.stop.clone()));
        Ok(routes)
    }
}

/// What the committee file calls the member of this key.
fn member_name(options: &NodeOptions, key: Option<&PublicKey>) -> Result<Option<String>, StartError> {
    let committee = load_committee(&options.committee.file)?;
    let member = committee.iter().flat_map(|committee| committee.members());
    Ok(member.filter(|member| Some(&member.public_key) == key).map(|member| member.name.clone()).next())
}
