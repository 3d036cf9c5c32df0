//! All that knows searchd: statements as types, quoting, client, reading of replies.
