"""From the names and shapes of stored tensors to canonical ones, whichever dialect a file is written in.

A name is read as words (`words`), the words tell a role (`roles`), the roles of a layer are told apart together
(`layers`), and each role is cut from the tensors that hold it (`match`). What words leave open, shapes may settle
(`elimination`), or the user (`keys`).
"""
