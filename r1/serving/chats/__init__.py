"""The page's chats: kept in a database, answered by the server whether anyone listens or not."""
