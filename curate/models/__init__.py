"""Models: what is asked, what answers, what it cost, and the ledger that never forgets an answer that was paid for."""
