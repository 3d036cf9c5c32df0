//! Commands that ask a controller.

use super::key_value;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// A live view in the terminal: status, alerts, operations, nodes, tables
#[derive(Clone, Debug, Args)]
#[command(after_help = "Keys: arrows, page up and down, home and end move; q ends.")]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub interval: u32,
}

/// What must be known now: alerts that fire, and those that were over a moment ago.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  shardwright alerts\n  \
                        shardwright alerts silence --type under_replicated --label table=products --seconds 3600 \\\n    \
                        --comment 'new disk on its way'\n  \
                        shardwright alerts silence --type under_replicated --label table=products --seconds 0")]
pub struct AlertsArgs {
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum AlertsCommand {
    /// Alerts of a type, or with a label, are shown and not announced for a while
    Silence {
        /// The type, as in `data_unavailable`; left out: every type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// A label that they have; once for each
        #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
        label: Vec<(String, String)>,
        /// For how long; 0 ends the silence of the same type and labels
        #[arg(long)]
        seconds: u64,
        /// Why, for the others
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Silences that are not over
    Silences,
}

/// Adopts the tables that the stock sidecar sharded: where they are, all of them or none.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Switch the stock sidecar's sharding off on every node before. It is answered only when everything that \
                        it knows of these tables is gone; the statements that give that back are saved first."
)]
pub struct ImportArgs {
    /// Looks, and tells what would be adopted or stands against it
    #[arg(long)]
    pub dry_run: bool,
    /// Where the way back is saved; a file that is there is not overwritten
    #[arg(long, value_name = "FILE", default_value = "shardwright-import-back.sql")]
    pub way_back: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// The nodes that the controller knows, with what they hold
    List,
    /// Moves a node's copies elsewhere and gives it no others; `node list` tells when it is drained
    Drain {
        /// The node's id, HOST:PORT
        id: String,
    },
    /// Lets a node take copies again
    Undrain {
        /// The node's id, HOST:PORT
        id: String,
    },
    /// Takes a drained node out of the cluster, or gives up a lost one
    Remove {
        /// The node's id, HOST:PORT
        id: String,
    },
}

/// Brings replication groups back after a total loss.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// Takes one node's copy of a stopped group for the newest; documents that only others hold are given up
    Recover {
        /// The group's name, from the alert
        group: String,
        /// The node's id, HOST:PORT
        #[arg(long)]
        from: String,
    },
}

/// Creates, drops and shows sharded tables.
#[derive(Clone, Debug, Subcommand)]
pub enum TableCommand {
    /// Creates a sharded table, as CREATE TABLE … shards='N' rf='M' does
    #[command(
        after_help = "Example: shardwright table create c:products --columns \"title text, price float\" --shards 6 --rf 2"
    )]
    Create {
        /// [CLUSTER:]NAME
        name: String,
        /// Columns as in SQL; without them the table has only ids
        #[arg(long, default_value = "")]
        columns: String,
        /// How many shards
        #[arg(long)]
        shards: u32,
        /// Copies of every shard
        #[arg(long)]
        rf: u32,
        /// Seconds to wait; then everything created is undone
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Success when the table is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Drops a sharded table with all its documents
    Drop {
        /// [CLUSTER:]NAME
        name: String,
    },
    /// The sharded tables
    List,
    /// One table, with every copy of every shard
    Show {
        /// [CLUSTER:]NAME
        name: String,
    },
    /// Why a shard is where it is, and what forbids each other node
    Explain {
        /// [CLUSTER:]NAME
        name: String,
        /// The shard's number, from 0
        shard: u32,
    },
    /// Changes how many copies every shard has, while the table is used
    #[command(
        after_help = "Example: shardwright table set-rf c:products 3\n\nIt is ordered and goes on by itself: `shardwright table show` shows it shard by shard."
    )]
    SetRf {
        /// [CLUSTER:]NAME
        name: String,
        /// Copies of every shard
        rf: u32,
    },
}

/// Moves groups until every node has its share: by itself when nodes come and go, and by these orders.
///
/// A plan is one for the whole cluster, so pause, stop and resume hold for all tables, whichever is named. Copies that
/// were lost are made anew all the same.
#[derive(Clone, Debug, Subcommand)]
pub enum RebalanceCommand {
    /// What a plan made now would move, and why; nothing is done
    Plan { name: String },
    /// Plans and begins; ends a pause or a stop
    Start { name: String },
    /// Whether moves run, wait, or are held
    Status { name: String },
    /// Lets running moves end and begins no other; the queue stays
    Pause { name: String },
    /// Goes on after a pause
    Resume { name: String },
    /// Lets running moves end and empties the queue; nothing moves by itself until a start
    Stop {
        name: String,
        /// Takes running moves back where their new copy is not used yet
        #[arg(long)]
        now: bool,
    },
    /// Forgets the queue, pauses and waiting times after failures, and plans anew
    Reset { name: String },
}

/// Moves a shard, with its group, from one node to another.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: shardwright move products 3 --from 127.0.0.1:9308 --to 127.0.0.1:9318")]
pub struct MoveArgs {
    /// [CLUSTER:]NAME
    pub name: String,
    /// The shard's number, from 0
    pub shard: u32,
    /// The node that gives its copy up
    #[arg(long, value_name = "HOST:PORT")]
    pub from: String,
    /// The node that gets it
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// Takes the shard out of its group first, so that no other moves along
    #[arg(long)]
    pub split: bool,
}

/// Records tables, copies their documents out, checks copies, brings tables back.
///
/// A record of every table that moves is made before each plan. Documents go to a directory of the controller's machine
/// or to an S3-compatible store, whose credentials the controller takes from its environment (`AWS_ACCESS_KEY_ID`, …) or
/// from the file `s3.conf` in its directory.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
    /// Records a table: schema, options, placement, routing, counts; with --with-data its documents, too
    #[command(after_help = "Examples:\n  shardwright backup create products\n  \
                            shardwright backup create products --with-data /var/backups/shardwright\n  \
                            shardwright backup create products --with-data s3://backups/search")]
    Create {
        /// [CLUSTER:]NAME
        name: String,
        /// Copies the documents, too: a directory on the controller's machine, or s3://BUCKET[/PREFIX]
        #[arg(long, value_name = "DIR|URL")]
        with_data: Option<String>,
        /// Records a checksum of every shard's documents, which reads them all
        #[arg(long)]
        checksums: bool,
        #[command(flatten)]
        pace: PaceArgs,
        /// Does not wait until the documents are copied
        #[arg(long)]
        no_wait: bool,
    },
    /// Backups, the oldest first
    List,
    /// One backup with all that it recorded
    Show {
        /// As `backup list` shows it
        id: String,
    },
    /// Reads a backup's documents and checks them against what was recorded
    Verify {
        /// As `backup list` shows it
        id: String,
        /// Where its documents are, when this controller does not list it
        #[arg(long, value_name = "DIR|URL")]
        from: Option<String>,
        /// Compares the table as it is now, too
        #[arg(long)]
        live: bool,
    },
    /// Makes a table as it was recorded, and brings its documents back; never deletes a document
    ///
    /// A table that is not there is made on the nodes it was on, or as a new one where those are not all there. One that
    /// is there is filled: missing documents are inserted, those that differ are left and told.
    #[command(after_help = "Examples:\n  shardwright backup restore backup:products:2026-01-31_12-00-00\n  \
                            shardwright backup restore backup:products:2026-01-31_12-00-00 --from /var/backups/shardwright")]
    Restore {
        /// As `backup list` shows it
        id: String,
        /// Where its documents are, when this controller does not list it: into another cluster
        #[arg(long, value_name = "DIR|URL")]
        from: Option<String>,
        /// Puts documents that differ back as they were recorded
        #[arg(long)]
        overwrite: bool,
        /// Another number of copies than recorded, for a table that is not there
        #[arg(long)]
        rf: Option<u32>,
        #[command(flatten)]
        pace: PaceArgs,
        /// Does not wait until it is done
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub struct PaceArgs {
    /// What copying may take of the network, for each of at most two shards at a time [default: 64]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub mib_per_second: Option<u32>,
}

/// Who changed what, when, from where, and what came of it.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// The last lines of the controller's audit log
    #[command(
        after_help = "Example: shardwright audit tail --lines 1000 --output json | jq '.lines[] | select(.actor == \"alice\")'"
    )]
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        lines: u16,
        /// Reads the files of a controller's directory, without a controller
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Whether every line is as it was written: finds one that was changed, removed or moved, and a cut end
    #[command(
        after_help = "With --dir the files are read without a controller, and a cut end is found only while none runs on that \
                            directory: it is the control log that knows how far the audit log goes.\n\n\
                            Exit codes: 0 as it was written, 1 not."
    )]
    Verify {
        /// Reads the files of a controller's directory, without a controller
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Tokens: who may do what over the controller's API and page.
///
/// A token has one role: viewer reads; operator creates tables, moves, drains, backs up; cluster_admin does everything, drops
/// and restores included; sidecar is for a node's sidecar and gate. The controller keeps only hashes.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token and shows it, this one time
    #[command(
        after_help = "Example: shardwright token create ci --role operator --days 30 > ci.token && chmod 600 ci.token"
    )]
    Create {
        /// Letters, digits, '_', '-' and '.'
        name: String,
        /// viewer, operator, cluster_admin or sidecar
        #[arg(long)]
        role: model::Role,
        /// How long it opens something; by default until it is revoked
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: Option<u64>,
    },
    /// The tokens with their roles and ends
    List,
    /// Ends a token at once, on all controllers
    Revoke { name: String },
}
