// A link from a chat opens the login even for who has logged in: the cookie
// stays home when a visit begins on another site. Asked from here it comes
// along, and if it is good there is nothing to log in to.
const answer = await fetch("/api/threads");
if (answer.ok) location.replace(document.body.dataset.next);
