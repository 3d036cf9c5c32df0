//! Looks at nodes for the operator: each a task of its own with its own deadline, answered to the driver.

use super::handle::{Handle, Message};
use super::meters::Meters;
use control::PollAnswer;
use manticore::client::Client;
use model::NodeId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle as Runtime;

/// For one request of a measurement: counting a large shard reads its ids.
const MEASURE_TIME_MAX: Duration = Duration::from_mins(1);

/// Sends looks. How many are under way is the operator's matter: it waits for the answer of each.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    client: Client,
    driver: Handle,
    meters: Arc<Meters>,
}

impl Looks {
    pub(super) const fn new(client: Client, driver: Handle, meters: Arc<Meters>) -> Self {
        Self { client, driver, meters }
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn poll(&self, runtime: &Runtime, node: NodeId, token: u64, tables: bool, time_max: Duration) {
        let looks = self.clone();
        runtime.spawn(async move {
            let began = Instant::now();
            let (reach, status) = looks.client.poll(&node, tables, time_max).await;
            looks.meters.polled(began.elapsed(), reach);
            looks.driver.seen(Message::Polled(PollAnswer { node, token, reach, status })).await;
        });
    }

    pub(super) fn measure(
        &self,
        runtime: &Runtime,
        node: NodeId,
        token: u64,
        tables: Vec<String>,
        deep: bool,
    ) {
        let looks = self.clone();
        runtime.spawn(async move {
            let measured = looks.client.measure(&node, &tables, deep, MEASURE_TIME_MAX).await;
            let measured = measured.map_err(|error| error.to_string());
            looks.driver.seen(Message::Measured { node, token, measured }).await;
        });
    }
}
