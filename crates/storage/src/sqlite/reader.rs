//! The reader threads: each takes one read at a time and answers it on its own connection, in a
//! snapshot that lasts as long as the statement.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    connect::Connector,
    queue::Queue,
    statement::{self, Texts},
};
use crate::{Row, StoreError, Value};

/// One read that waits.
pub(super) struct Read {
    pub(super) sql: &'static str,
    pub(super) params: Vec<Value>,
    pub(super) reply: oneshot::Sender<Result<Vec<Row>, StoreError>>,
}

pub(super) struct Reader {
    connector: Connector,
    /// Absent after an error that spoiled it; opened again for the next read.
    connection: Option<Connection>,
    texts: Texts,
}

impl Reader {
    pub(super) fn new(connector: Connector, connection: Connection) -> Self {
        Reader { connector, connection: Some(connection), texts: Texts::default() }
    }

    /// Answers reads until the queue is closed.
    pub(super) fn run(mut self, queue: &Queue<Read>) {
        while let Some(reads) = queue.take(1) {
            for read in reads {
                // Whoever asked may have gone away while the read waited.
                if !read.reply.is_closed() {
                    let answer = self.answer(read.sql, &read.params);
                    let _ = read.reply.send(answer);
                }
            }
        }
    }

    fn answer(&mut self, sql: &'static str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.reader()?,
        };
        match statement::run(&connection, &mut self.texts, sql, params) {
            Ok(ran) => {
                self.connection = Some(connection);
                Ok(ran.rows)
            }
            Err(error) => {
                if !statement::spoils_connection(&error) {
                    self.connection = Some(connection);
                }
                Err(statement::failed(error))
            }
        }
    }
}
