// ReDoc would make a search worker out of a text, which the policy of the page forbids. Where there
// are no workers it searches in the page itself.
delete window.Worker;
