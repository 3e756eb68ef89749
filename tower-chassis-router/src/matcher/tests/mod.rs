//! The rules one by one, and the trie against an oracle that shares no code with it.

mod adversarial;
mod oracle;
mod property;
mod rules;
