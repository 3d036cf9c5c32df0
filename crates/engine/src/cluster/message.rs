//! What members of one cluster, and those who want to be, say to each other.

use super::{
    entry::{Body, Entry, Keys, Payload, Ticket},
    view::{Member, Round, View, ViewId},
};
use model::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything between the nodes of one cluster. The transport keeps the order between two nodes and may lose
/// messages, so whatever must arrive is said again until it is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClusterMessage {
    Alive(Alive),
    /// Origin → sequencer: the origin's `index`-th proposal in this view.
    Propose {
        view: ViewId,
        index: u64,
        ticket: Ticket,
        seen: u64,
        keys: Keys,
        body: Body,
    },
    /// Sequencer → members.
    Ordered {
        view: ViewId,
        entry: Entry,
    },
    /// Sequencer → origin, which has the rest.
    OrderedOwn {
        view: ViewId,
        seqno: u64,
        ticket: Ticket,
    },
    /// Member → members: all up to `seqno` is in memory here.
    Received {
        view: ViewId,
        seqno: u64,
    },
    /// Member → sequencer: entries from `from` on are missing.
    Resend {
        view: ViewId,
        from: u64,
    },
    /// Sequencer → members: proposals are taken again after a join that came to nothing.
    Thaw {
        view: ViewId,
    },

    /// Initiator → candidates of a new view: stop, and tell what you hold.
    Gather {
        round: Round,
    },
    Gathered {
        round: Round,
        state: Holding,
    },
    /// The round is too late: another one has been promised, or the asker is not of this view.
    Rejected {
        round: Round,
        promised: Round,
    },
    /// Initiator → the member that holds most.
    Fetch {
        round: Round,
        from: u64,
    },
    /// Entries a candidate lacks. They go on the log of view `base`: one whose own view is older first forgets what it
    /// had not applied, for that may have been ordered otherwise.
    Fill {
        round: Round,
        base: ViewId,
        entries: Vec<Entry>,
    },
    Install {
        round: Round,
        base: ViewId,
        view: View,
        nodes_set: Option<Vec<NodeId>>,
    },
    Lacking {
        round: Round,
        from: u64,
    },
    Installed {
        round: Round,
    },
    /// Every member of the view has installed it: it counts.
    Confirm {
        view: ViewId,
    },
    /// These candidates may not go on without the others.
    NoQuorum {
        round: Round,
    },

    /// The sender is going: it counts no more. `for_good`: it is no member any longer (EXIT).
    Leave {
        member: Member,
        for_good: bool,
    },
    /// A view without you is in force.
    Left,
    /// The cluster is dissolved.
    Delete,
    Deleted,

    /// A starting node asks the persisted members.
    Hello,
    Standing(Standing),
    Join(JoinRequest),
    JoinAnswer(JoinAnswer),
    /// Coordinator → donor.
    Donate {
        session: u64,
        joiner: Member,
        upto: u64,
        have: Option<Have>,
        wait: bool,
    },
    /// Joiner → coordinator: all of it is here.
    Joined {
        session: u64,
    },
    /// Coordinator or donor: this transfer is over, come again.
    Abort {
        session: u64,
    },
    /// A numbered part of a transfer, acknowledged one by one.
    Transfer {
        session: u64,
        number: u64,
        part: Part,
    },
    TransferAck {
        session: u64,
        number: u64,
    },
}

/// A sign of life and what the sender knows, so that lost messages are noticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a report of plain facts")]
pub struct Alive {
    pub member: Member,
    pub uuid: String,
    pub branch: u64,
    /// The installed view.
    pub view: ViewId,
    pub confirmed: bool,
    pub primary: bool,
    /// The process of the receiver that the sender's view has.
    pub you: Option<u64>,
    pub received: u64,
    /// It promised itself to a round that does not end, and acknowledges nothing.
    pub stuck: bool,
    pub suspects: BTreeSet<NodeId>,
    /// The receiver is to answer with its own.
    pub probe: bool,
}

/// What a candidate brings into a new view.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holding {
    pub member: Member,
    /// It has not lost its primary view.
    pub primary: bool,
    pub installed: View,
    pub confirmed: View,
    /// Views installed after the confirmed one: each may have come into force without this member's knowing.
    pub attempts: Vec<View>,
    pub received: u64,
    pub applied: u64,
    /// The fingerprint of the history up to `applied`.
    pub digest: u64,
    pub left: BTreeSet<Member>,
    /// Nodes whose new process asked it for a place a moment ago.
    pub returned: BTreeMap<NodeId, LastView>,
}

/// What a process that died left behind of the last view that was in force there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastView {
    pub conf: u64,
    pub members: Vec<NodeId>,
}

/// What a returning member still has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Have {
    pub uuid: String,
    pub applied: u64,
    pub digest: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    pub member: Member,
    /// It was a member before and comes back by itself.
    pub returning: bool,
    pub have: Option<Have>,
    /// Of one that was restarted.
    pub last: Option<LastView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// No such cluster here.
    Unknown,
    NotPrimary,
    /// Another join or a change of view is under way.
    Busy,
    /// Ask this member.
    Ask(NodeId),
    Accepted {
        session: u64,
    },
}

/// Where a node stands in a cluster, for one that is starting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Standing {
    Absent,
    /// It gave up at its own start: `recovery-required`.
    Closed,
    /// It is starting or returning itself.
    Starting,
    Member {
        primary: bool,
        nodes_set: Vec<NodeId>,
        members: Vec<Member>,
    },
}

impl ClusterMessage {
    /// Which copy it is a piece of, and the piece's number.
    pub(crate) fn piece(&self) -> Option<(u64, u64)> {
        match self {
            Self::Transfer { session, number, .. } => Some((*session, *number)),
            _ => None,
        }
    }
}

/// The state that a transfer ends in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransferHead {
    pub view: View,
    pub seqno: u64,
    pub digest: u64,
    pub tables: Vec<String>,
    pub nodes_set: Vec<NodeId>,
    /// Only the entries since what the receiver has, instead of whole tables.
    pub incremental: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Part {
    /// A member's state.
    State(TransferHead),
    /// Copies of tables that are about to be added to the cluster.
    Stage,
    /// A piece of tables, in the bytes of the storage.
    Piece(Payload),
    /// Applied entries with their verdicts.
    Entries(Vec<(Entry, bool)>),
    End,
}
